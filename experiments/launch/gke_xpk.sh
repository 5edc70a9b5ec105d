#!/usr/bin/env bash
# Train on a GKE cluster that xpk manages (TPU slices, several slices, GPU nodes).
#
#   gke_xpk.sh launch NAME --cluster C --image I (--tpu-type T | --device-type T) [...] -- PRESET --data DIR --workdir DIR [...]
#   gke_xpk.sh list --cluster C
#   gke_xpk.sh logs NAME
#   gke_xpk.sh delete NAME --cluster C
#
#   --cluster C           name of the cluster
#   --project P, --zone Z where it is; without them, what gcloud is set to
#   --image I             image built from experiments/launch/Dockerfile
#   --tpu-type T          for instance v5litepod-16; --slices N of them (1)
#   --device-type T       for instance h100-80gb-8, on --nodes N (1)
#   --max-restarts N      how often a stopped or killed run starts again (50)
#   --grace-seconds N     from TERM to KILL (180): twice a step and a checkpoint, at least
#   --dry-run             print the commands, and run nothing
#
# What follows -- goes to pretrain.py unchanged. xpk starts a run again after exit codes 42 and 127 to 255, never after 1 or 2.
# Folders of --data and --workdir are those of a storage that all pods mount: xpk storage attach ...

set -euo pipefail

. "$(cd "$(dirname "$0")" && pwd)/common.sh"

advice_xpk="Install it: pip install xpk."
verb=${1:-}
case $verb in
    launch | list | logs | delete) shift ;;
    -h | --help) print_help && exit ;;
    '') wrong "say what to do: launch, list, logs or delete." ;;
    *) wrong "'$verb' is not something gke_xpk.sh does. Choose launch, list, logs or delete." ;;
esac
name=
if [ "$verb" != list ]; then
    case ${1:-} in
        '' | -*) wrong "$verb needs the name of the run: gke_xpk.sh $verb NAME ..." ;;
    esac
    name=$1 && shift
fi

cluster='' project='' zone='' image='' tpu_type='' device_type='' slices=1 nodes=1 max_restarts=50 grace=180 dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --cluster) needs_value "$@" && cluster=$2 && shift 2 ;;
        --project) needs_value "$@" && project=$2 && shift 2 ;;
        --zone) needs_value "$@" && zone=$2 && shift 2 ;;
        --image) needs_value "$@" && image=$2 && shift 2 ;;
        --tpu-type) needs_value "$@" && tpu_type=$2 && shift 2 ;;
        --device-type) needs_value "$@" && device_type=$2 && shift 2 ;;
        --slices) needs_value "$@" && slices=$2 && shift 2 ;;
        --nodes) needs_value "$@" && nodes=$2 && shift 2 ;;
        --max-restarts) needs_value "$@" && max_restarts=$2 && shift 2 ;;
        --grace-seconds) needs_value "$@" && grace=$2 && shift 2 ;;
        --dry-run) dry_run=yes && shift ;;
        -h | --help) print_help && exit ;;
        --) shift && break ;;
        *) wrong "'$1' is not an option of gke_xpk.sh. What pretrain.py takes goes after --." ;;
    esac
done
where=(--cluster="$cluster")
[ -z "$project" ] || where+=(--project="$project")
[ -z "$zone" ] || where+=(--zone="$zone")

case $verb in
    launch)
        needs_given --cluster "$cluster"
        needs_given --image "$image"
        needs_number --slices "$slices"
        needs_number --nodes "$nodes"
        needs_number --max-restarts "$max_restarts" 0
        needs_number --grace-seconds "$grace"
        needs_arguments "$@"
        if [ -n "$tpu_type" ] && [ -z "$device_type" ]; then
            devices=(--tpu-type="$tpu_type" --num-slices="$slices")
        elif [ -n "$device_type" ] && [ -z "$tpu_type" ]; then
            devices=(--device-type="$device_type" --num-nodes="$nodes")
        else
            wrong "name the accelerators, either with --tpu-type or with --device-type."
        fi
        needs_tool xpk "$advice_xpk"
        # xpk runs the command in a shell that hands TERM to its child: exec makes that child Python.
        run xpk workload create --workload="$name" "${where[@]}" "${devices[@]}" --docker-image="$image" \
            --max-restarts="$max_restarts" --termination-grace-period-seconds="$grace" \
            --command="exec python experiments/pretrain.py $(quoted "$@")"
        ;;
    list)
        needs_given --cluster "$cluster"
        needs_tool xpk "$advice_xpk"
        run xpk workload list "${where[@]}"
        ;;
    logs)
        needs_tool kubectl "Install it: gcloud components install kubectl."
        run kubectl logs --follow --prefix --tail=200 --max-log-requests=256 --selector="xpk.google.com/workload=$name"
        ;;
    delete)
        needs_given --cluster "$cluster"
        needs_tool xpk "$advice_xpk"
        run xpk workload delete --workload="$name" "${where[@]}"
        ;;
esac
