#!/usr/bin/env bash
# Run one process of a job, and leave a line "SECONDS CODE" in FOLDER when it ends, so that a launcher can tell which of
# many processes ended first, and how: schedulers report one code for all, and not always the one that matters.
#
#   process.sh FOLDER COMMAND...

set -euo pipefail

folder=$1
shift

signalled=
"$@" &
child=$!
for signal in TERM USR1; do
    # shellcheck disable=SC2064  # the signal's name is filled in now
    trap "signalled=yes; kill -$signal $child 2>/dev/null || true" "$signal"
done
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
