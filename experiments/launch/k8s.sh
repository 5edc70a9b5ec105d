#!/usr/bin/env bash
# Train on a Kubernetes cluster that has JobSet (kubernetes-sigs/jobset): fill in k8s.yaml and apply it.
#
#   k8s.sh NAME --image I --claim C [--processes N] [...] -- PRESET --data DIR --workdir DIR [...]
#
#   --image I           image built from experiments/launch/Dockerfile
#   --claim C           PersistentVolumeClaim that all pods can mount at once (ReadWriteMany)
#   --mount DIR         where the pods see it (/mnt/poyo); --data and --workdir lie there
#   --processes N       how many pods (1)
#   --gpus N            GPUs of each pod (0)
#   --namespace S       (default)
#   --max-restarts N    how often a stopped or killed run starts again (50)
#   --grace-seconds N   from TERM to KILL (180): twice a step and a checkpoint, at least
#   --dry-run           print what would be applied, and apply nothing
#
# What follows -- goes to pretrain.py unchanged. 42 and 128 to 255 start all processes again, 1 and 2 never.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"

case ${1:-} in
    -h | --help) print_help && exit ;;
    '' | -*) wrong "the name of the run is missing: k8s.sh NAME ..." ;;
esac
name=$1 && shift
case $name in
    *[!a-z0-9-]* | [!a-z]* | *-) wrong "the name of a run on Kubernetes has lower-case letters, digits and hyphens, unlike '$name'." ;;
esac

image='' claim='' mount=/mnt/poyo processes=1 gpus=0 namespace=default max_restarts=50 grace=180 dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --image) needs_value "$@" && image=$2 && shift 2 ;;
        --claim) needs_value "$@" && claim=$2 && shift 2 ;;
        --mount) needs_value "$@" && mount=$2 && shift 2 ;;
        --processes) needs_value "$@" && processes=$2 && shift 2 ;;
        --gpus) needs_value "$@" && gpus=$2 && shift 2 ;;
        --namespace) needs_value "$@" && namespace=$2 && shift 2 ;;
        --max-restarts) needs_value "$@" && max_restarts=$2 && shift 2 ;;
        --grace-seconds) needs_value "$@" && grace=$2 && shift 2 ;;
        --dry-run) dry_run=yes && shift ;;
        -h | --help) print_help && exit ;;
        --) shift && break ;;
        *) wrong "'$1' is not an option of k8s.sh. What pretrain.py takes goes after --." ;;
    esac
done
needs_given --image "$image"
needs_given --claim "$claim"
needs_number --processes "$processes"
needs_number --gpus "$gpus" 0
needs_number --max-restarts "$max_restarts" 0
needs_number --grace-seconds "$grace"
needs_arguments "$@"

# json WORD: the word as a string of JSON, which is YAML too. Kubernetes replaces $(NAME) in arguments, but not $$(NAME).
json() {
    # shellcheck disable=SC1003
    local word=$1 slash='\' quote='"' line=$'\n' dollar="\$("
    word=${word//"$slash"/"$slash$slash"}
    word=${word//"$quote"/"$slash$quote"}
    word=${word//"$line"/"${slash}n"}
    word=${word//"$dollar"/"\$$dollar"}
    printf '"%s"' "$word"
}

arguments=$(json "$1")
for word in "${@:2}"; do arguments+=", $(json "$word")"; done

# shellcheck disable=SC2016  # these are the placeholders of k8s.yaml
render() {
    local text
    text=$(cat "$here/k8s.yaml")
    text=${text//'${NAMESPACE}'/"$namespace"}
    text=${text//'${NAME}'/"$name"}
    text=${text//'${PROCESSES}'/"$processes"}
    text=${text//'${GPUS}'/"$gpus"}
    text=${text//'${MAX_RESTARTS}'/"$max_restarts"}
    text=${text//'${GRACE_SECONDS}'/"$grace"}
    text=${text//'${IMAGE}'/"$(json "$image")"}
    text=${text//'${CLAIM}'/"$(json "$claim")"}
    text=${text//'${MOUNT}'/"$(json "$mount")"}
    text=${text//'${ARGUMENTS}'/"[$arguments]"}
    printf '%s\n' "$text"
}

needs_tool kubectl "Install it: https://kubernetes.io/docs/tasks/tools."
if [ -n "$dry_run" ]; then
    echo "# kubectl apply --filename - <<'END'"
    render
    echo "# END"
else
    render | kubectl apply --filename -
    say "logs: kubectl logs --namespace $namespace --follow --prefix --max-log-requests 256 --selector poyo-jax/run=$name"
    say "stop: kubectl delete jobset --namespace $namespace $name"
fi
