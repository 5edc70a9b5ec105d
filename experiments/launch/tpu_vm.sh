#!/usr/bin/env bash
# Train on a TPU pod slice of Google Cloud, as a queued resource: the same command on every worker, again after it was stopped.
#
#   tpu_vm.sh create NAME --zone Z --type T --version V [--spot]     ask for the slice; it may come at once or in hours
#   tpu_vm.sh sync   NAME --zone Z [--setup COMMAND]                 copy this repository to all workers and install it
#   tpu_vm.sh run    NAME --zone Z [...] -- PRESET --data DIR --workdir DIR [...]
#   tpu_vm.sh logs   NAME --zone Z [--worker W]
#   tpu_vm.sh status NAME --zone Z
#   tpu_vm.sh stop   NAME --zone Z                                   save a checkpoint, then end
#   tpu_vm.sh delete NAME --zone Z
#
#   --zone Z, --project P   where it is; without --project, what gcloud is set to
#   --type T                for instance v5litepod-16
#   --version V             software of the machines, for instance v2-alpha-tpuv5-lite
#   --spot                  cheaper, and taken away when others need it
#   --setup COMMAND         also run this on every worker, for instance to mount the shared folder
#   --worker W              whose log to show: a number, or all (0)
#   --max-restarts N        start the run again at most so often (50)
#   --dry-run               print the commands, and run nothing
#
# What follows -- goes to pretrain.py unchanged. `run` waits for the slice, starts pretrain.py on all workers and follows it;
# the run goes on when this computer is switched off, and the same command follows it again. Exit codes 42 and 128 or more
# start it again, 1 and 2 never. With --type, --version, and what create and sync were given, `run` also replaces a slice that
# was taken away.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"

verbs="create, sync, run, logs, status, stop or delete"
verb=${1:-}
case $verb in
    create | sync | run | logs | status | stop | delete) shift ;;
    -h | --help) print_help && exit ;;
    '') wrong "say what to do: $verbs." ;;
    *) wrong "'$verb' is not something tpu_vm.sh does. Choose $verbs." ;;
esac
case ${1:-} in
    '' | -*) wrong "$verb needs the name of the slice: tpu_vm.sh $verb NAME ..." ;;
esac
name=$1 && shift

zone='' project='' type='' version='' spot='' setup='' worker=0 max_restarts=50 dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --zone) needs_value "$@" && zone=$2 && shift 2 ;;
        --project) needs_value "$@" && project=$2 && shift 2 ;;
        --type) needs_value "$@" && type=$2 && shift 2 ;;
        --version) needs_value "$@" && version=$2 && shift 2 ;;
        --spot) spot=yes && shift ;;
        --setup) needs_value "$@" && setup=$2 && shift 2 ;;
        --worker) needs_value "$@" && worker=$2 && shift 2 ;;
        --max-restarts) needs_value "$@" && max_restarts=$2 && shift 2 ;;
        --dry-run) dry_run=yes && shift ;;
        -h | --help) print_help && exit ;;
        --) shift && break ;;
        *) wrong "'$1' is not an option of tpu_vm.sh. What pretrain.py takes goes after --." ;;
    esac
done
needs_given --zone "$zone"
where=(--zone="$zone")
[ -z "$project" ] || where+=(--project="$project")
pause=${POLL_SECONDS:-30} # between two looks at the slice or the run

# --- what runs on the workers: code in ~/poyo_jax, packages in ~/poyo_venv, log and exit codes in ~/poyo_run

# Ubuntu of the TPU machines has an older Python than poyo_jax needs, so uv brings its own.
install='rm -rf ~/poyo_jax && mkdir -p ~/poyo_jax && tar -xzf ~/poyo_jax.tar.gz -C ~/poyo_jax && cd ~/poyo_jax &&
python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --allow-existing --python 3.11 ~/poyo_venv &&
python3 -m uv pip install --quiet --python ~/poyo_venv/bin/python -e ".[gcs]" "jax[tpu]" -c experiments/launch/constraints.txt'

# shellcheck disable=SC2016  # the workers expand these
alive='[ -z "$(ls ~/poyo_run/codes 2>/dev/null)" ] && kill -0 "$(cat ~/poyo_run/pid 2>/dev/null)" 2>/dev/null'

start="mkdir -p ~/poyo_run; cd ~/poyo_jax || exit 2
if $alive; then echo 'it runs already'; exit; fi
rm -rf ~/poyo_run/codes ~/poyo_run/stop
nohup setsid experiments/launch/process.sh ~/poyo_run/codes ~/poyo_venv/bin/python experiments/pretrain.py \
$(quoted "$@") >>~/poyo_run/log 2>&1 </dev/null &
echo \$! >~/poyo_run/pid"

# One line per worker: "poyo: running" or "poyo: SECONDS CODE"; one more if the run was ended by stop.
look="if $alive; then echo poyo: running; else echo poyo: \$(cat ~/poyo_run/codes/* 2>/dev/null || echo 9999999999 137); fi
[ ! -e ~/poyo_run/stop ] || echo poyo: stop"

# shellcheck disable=SC2016
ask_to_stop='touch ~/poyo_run/stop; kill -TERM "$(cat ~/poyo_run/pid)"'
kill_all="if $alive; then kill -KILL -- -\$(cat ~/poyo_run/pid); sleep 1; fi"

# --- what runs here

on_workers() { run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="${2:-all}" --command="$1"; }

create() {
    local options=(--node-id="$name" --accelerator-type="$type" --runtime-version="$version")
    [ -z "$spot" ] || options+=(--spot)
    run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${options[@]}"
}

delete() { run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet; }

# A network that fails for a moment is no reason to ask for another slice.
state() {
    local answer
    if answer=$(gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>&1); then
        echo "$answer" | tail -n 1
    else
        case $answer in *NOT_FOUND*) echo MISSING ;; *) echo UNKNOWN ;; esac
    fi
}

sync() {
    local archive
    archive=$(mktemp -d)/poyo_jax.tar.gz
    # Every file of the checkout as it is now, but nothing that git ignores.
    run sh -c 'cd "$1" && git ls-files -z --cached --others --exclude-standard | tar --null -czf "$2" -T -' - "$here/../.." "$archive"
    run gcloud compute tpus tpu-vm scp "$archive" "$name:poyo_jax.tar.gz" "${where[@]}" --worker=all
    rm -rf "$(dirname "$archive")"
    on_workers "$install"
    [ -z "$setup" ] || on_workers "$setup"
}

# Wait for the slice; replace it where it was taken away and enough is known to do so.
await_slice() {
    local now before=
    while :; do
        now=$(state)
        [ "$now" = "$before" ] || say "the slice is $now."
        before=$now
        case $now in
            ACTIVE) return ;;
            FAILED)
                say "the request for the slice failed: status tells why. Delete it, then create it with other options."
                exit 1
                ;;
            SUSPENDED | MISSING)
                if [ -z "$type" ] || [ -z "$version" ]; then
                    say "the slice is gone. Create it again, or give run --type and --version, so that it does."
                    exit 1
                fi
                [ "$now" = MISSING ] || delete
                create
                fresh=yes
                ;;
        esac
        sleep "$pause"
    done
}

# Look at the run until it has ended on all workers; then code and stopped are set.
follow() {
    local answers silent=0 failed=0
    stopped=
    while :; do
        sleep "$pause"
        if ! answers=$(gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$look" 2>/dev/null); then
            silent=$((silent + 1))
            [ "$silent" -ge 3 ] || continue
            say "a worker does not answer any more."
            code=255
            return
        fi
        silent=0
        answers=$(printf '%s\n' "$answers" | sed -n 's/^poyo: //p')
        case $answers in *stop*) stopped=yes ;; esac
        code=$(printf '%s\n' "$answers" | sed -n '/^[0-9]/p' | most_telling)
        case $answers in *running*) ;; *) return ;; esac
        if [ "$code" -ne 0 ] && [ "$code" -ne 42 ]; then
            failed=$((failed + 1))
            [ "$failed" -lt 3 ] || on_workers "$kill_all" # the others wait for one that is dead
        fi
    done
}

needs_tool gcloud "Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install."
case $verb in
    create)
        needs_given --type "$type"
        needs_given --version "$version"
        create
        ;;
    sync) sync ;;
    run)
        needs_number --max-restarts "$max_restarts" 0
        needs_arguments "$@"
        if [ -n "$dry_run" ]; then
            echo "# when the slice is ACTIVE"
            on_workers "$start"
            echo "# every $pause s, until all workers have ended"
            on_workers "$look"
            echo "# exit code 42, or 128 and more: from the top, at most $max_restarts times"
            echo "# exit code 0, 1, 2: end with that code"
            exit
        fi
        trap 'say "the run goes on without this command; the same command follows it again, and stop ends it."; exit 130' INT
        fresh='' restarts=0
        while :; do
            await_slice
            [ -z "$fresh" ] || sync
            fresh=
            status=0
            on_workers "$start" || status=$?
            [ "$status" -ne 2 ] || wrong "a worker has no ~/poyo_jax. Copy it there first: tpu_vm.sh sync $name --zone $zone"
            [ "$status" -eq 0 ] || say "not every worker was reached." # follow finds out whether it is gone
            follow
            say "exit code $code: $(meaning "$code")."
            if [ -n "$stopped" ] || ! worth_retrying "$code"; then exit "$code"; fi
            if [ "$restarts" -ge "$max_restarts" ]; then
                say "not started again: it was restarted $max_restarts times already (--max-restarts)."
                exit "$code"
            fi
            restarts=$((restarts + 1))
            on_workers "$kill_all" || true # whatever still waits for the others
        done
        ;;
    logs) on_workers 'tail -n 200 -F ~/poyo_run/log' "$worker" ;;
    status)
        run gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='yaml(state)'
        on_workers "$look"
        ;;
    stop) on_workers "$ask_to_stop" ;;
    delete) delete ;;
esac
