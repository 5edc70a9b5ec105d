#!/usr/bin/env bash
# Rehearse a pod on this computer: several processes of one run, each with CPU devices of its own.
#
#   local.sh [--processes N] [--devices K] [--script FILE] [--dry-run] -- PRESET --data DIR --workdir DIR [...]
#
#   --processes N   how many processes (2)
#   --devices K     CPU devices of each process (2)
#   --script FILE   run another script than experiments/pretrain.py
#   --dry-run       print the commands, and run nothing
#
# What follows -- goes to the script unchanged. Every line of output starts with the number of its process. Ctrl-C, TERM and
# USR1 go to all processes. When one fails, the others get five seconds to end by themselves, then they are killed.
# It exits with the code that tells most: 2 if any process says so, else that of the first that failed, else 42, else 0.
# The environment variable PYTHON names the interpreter; without it, that of .venv, or python3.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/common.sh"

patience=5 # seconds that the others get when one process has failed

processes=2 devices=2 script=$root/experiments/pretrain.py dry_run=
while [ $# -gt 0 ]; do
    case $1 in
        --processes) needs_value "$@" && processes=$2 && shift 2 ;;
        --devices) needs_value "$@" && devices=$2 && shift 2 ;;
        --script) needs_value "$@" && script=$2 && shift 2 ;;
        --dry-run) dry_run=yes && shift ;;
        -h | --help) print_help && exit ;;
        --) shift && break ;;
        *) wrong "'$1' is not an option of local.sh. What pretrain.py takes goes after --." ;;
    esac
done
needs_number --processes "$processes"
needs_number --devices "$devices"
needs_arguments "$@"
[ -f "$script" ] || wrong "--script $script is not a file."

python=$(find_python "$root")
port=PORT # only a real run looks for a free one
[ -n "$dry_run" ] || port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')

# environment PROCESS: the variables that make a process one of many.
environment() {
    echo "JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices JAX_COORDINATOR_ADDRESS=localhost:$port" \
        "JAX_NUM_PROCESSES=$processes JAX_PROCESS_ID=$1"
}

if [ -n "$dry_run" ]; then
    echo "# all at once; PORT is a free one"
    for ((id = 0; id < processes; id++)); do
        printf '+ env %s %s\n' "$(environment $id)" "$(quoted "$python" "$script" "$@")"
    done
    exit
fi

numbered() { while IFS= read -r line || [ -n "$line" ]; do printf '[%s] %s\n' "$1" "$line"; done; }

# shellcheck disable=SC2317,SC2329  # called by the traps
send() {
    local id
    for ((id = 0; id < processes; id++)); do
        [ -n "${ended[id]:-}" ] || kill "-$1" "${pids[id]:-}" 2>/dev/null || true
    done
}

pids=() ended=()
pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
trap 'send TERM' TERM
trap 'send INT' INT
trap 'send USR1' USR1
set -m # every process leads a group of its own: the terminal's Ctrl-C reaches it once, from here
for ((id = 0; id < processes; id++)); do
    mkfifo "$pipes/$id"
    numbered $id <"$pipes/$id" &
    readers[id]=$!
    # shellcheck disable=SC2046  # one word per variable
    env $(environment $id) "$python" "$script" "$@" </dev/null >"$pipes/$id" 2>&1 &
    pids[id]=$!
done
set +m

running=$processes look=0 deadline=
while [ "$running" -gt 0 ]; do
    sleep 0.1 || true # Ctrl-C ends it, too
    look=$((look + 1))
    for ((id = 0; id < processes; id++)); do
        if [ -n "${ended[id]:-}" ] || kill -0 "${pids[id]}" 2>/dev/null; then continue; fi
        code=0
        { wait "${pids[id]}"; } 2>/dev/null || code=$? # bash reports a kill there
        ended[id]="$look $code"
        kill -KILL -- "-${pids[id]}" 2>/dev/null || true # what it started and left behind
        running=$((running - 1))
        if [ "$code" -ne 0 ] && [ "$code" -ne 42 ] && [ -z "$deadline" ] && [ "$running" -gt 0 ]; then
            say "process $id exited with $code; the others have $patience seconds to end."
            deadline=$((SECONDS + patience))
        fi
    done
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
        for ((id = 0; id < processes; id++)); do
            [ -n "${ended[id]:-}" ] || kill -KILL -- "-${pids[id]}" 2>/dev/null || true
        done
    fi
done
wait "${readers[@]}" || true
code=$(printf '%s\n' "${ended[@]}" | most_telling)
say "exit code $code: $(meaning "$code")."
exit "$code"
