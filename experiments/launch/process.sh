#!/usr/bin/env bash
# Run one process of a job, and leave a line "SECONDS CODE" in FOLDER when it ends, so that a launcher can tell which of
# many processes ended first, and how: schedulers report one code for all, and not always the one that matters.
#
#   process.sh FOLDER COMMAND...

set -euo pipefail

folder=$1
shift

signalled='' child=''
# shellcheck disable=SC2317,SC2329  # called by the traps
hand_on() {
    signalled=yes
    [ -z "$child" ] || kill "-$1" "$child" 2>/dev/null || true
}
trap 'hand_on TERM' TERM
trap 'hand_on USR1' USR1
"$@" &
child=$!
[ -z "$signalled" ] || hand_on TERM # it came before there was a child
while :; do
    code=0
    wait "$child" || code=$?
    [ -n "$signalled" ] || break # otherwise it was the signal that ended the wait
    signalled=
done
mkdir -p "$folder"
echo "$(date +%s.%N) $code" >"$folder/$HOSTNAME-$$"
[ "$code" -ne 42 ] || exit 0 # srun --kill-on-bad-exit must not kill those that still write the checkpoint
exit "$code"
