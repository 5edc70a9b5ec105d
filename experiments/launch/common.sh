# shellcheck shell=bash
# What the launchers share: their help, their errors, how they print a command, and what exit codes mean. Sourced, never run.

# The comment at the top of the launcher is its help.
print_help() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

say() { printf '%s\n' "$*" >&2; }

# End on a mistake of the user. Status 2 means everywhere: running the same command again cannot help.
wrong() {
    say "$*"
    say "'$0 --help' tells what it takes."
    exit 2
}

# needs_value OPTION [VALUE]: an option whose value was forgotten.
needs_value() { [ $# -ge 2 ] || wrong "$1 needs a value after it."; }

# needs_number OPTION VALUE [LEAST]
needs_number() {
    case $2 in '' | *[!0-9]*) wrong "$1 is '$2', but has to be a whole number." ;; esac
    [ "$2" -ge "${3:-1}" ] || wrong "$1 is $2, but has to be at least ${3:-1}."
}

# needs_given OPTION VALUE: an option that cannot be left out.
needs_given() { [ -n "$2" ] || wrong "$1 is missing."; }

# needs_arguments ARGUMENT...: what follows -- and goes to pretrain.py, whose --data must be a folder of the machines.
needs_arguments() {
    local word option=''
    [ $# -gt 0 ] || wrong "nothing follows --. There goes what pretrain.py takes: -- PRESET --data DIR --workdir DIR"
    for word; do
        case $option$word in
            --data=*://*) refuse_address --data "${word#--data=}" ;;
            --workdir=gs://*) ;;
            --workdir=*://*) refuse_address --workdir "${word#--workdir=}" ;;
        esac
        case $word in --data | --workdir) option=$word= ;; *) option='' ;; esac
    done
}

# refuse_address OPTION ADDRESS
refuse_address() {
    wrong "$1 $2 is an address, but has to be a folder. Download it to every machine, or mount the bucket there as a folder."
}

# needs_tool COMMAND ADVICE. Dry runs need no tool.
needs_tool() {
    [ -n "$dry_run" ] && return
    command -v "$1" >/dev/null || {
        say "'$1' is not a command here. $2 Or add --dry-run to see what would be run."
        exit 2
    }
}

# find_python ROOT: the interpreter that PYTHON names, else the one that make installed, else python3.
find_python() {
    local installed=$1/.venv/bin/python
    [ -x "$installed" ] || installed=python3
    echo "${PYTHON:-$installed}"
}

# quoted WORD...: the words as one line that a shell reads back as the same words.
quoted() {
    local word apostrophe="'" escaped="'\\''" space=""
    for word; do
        case $word in
            '' | *[!A-Za-z0-9_./:=@%+,-]*)
                word=${word//"$apostrophe"/"$escaped"}
                word="'$word'"
                ;;
        esac
        printf '%s%s' "$space" "$word"
        space=' '
    done
}

# run COMMAND...: print the command, then run it unless this is a dry run.
run() {
    printf '+ %s\n' "$(quoted "$@")"
    [ -n "$dry_run" ] || "$@"
}

# most_telling: how a job of many processes ended, from lines "SECONDS CODE" on standard input.
# 2 if any process says 2; else the code of the first process that failed, since the others die of it; else 42; else 0.
most_telling() {
    sort -n -k 1,1 -k 2,2 | awk '
        $2 == 2 { usage = 1 }
        $2 == 42 { stopped = 42 }
        $2 != 0 && $2 != 42 && !failed { failed = $2 }
        END { print usage ? 2 : failed ? failed : stopped + 0 }'
}

# worth_retrying CODE: 42 stopped early with a good checkpoint; 128 and more killed, or hung and freed by its watchdog (142).
worth_retrying() { [ "$1" -eq 42 ] || [ "$1" -ge 128 ]; }

# meaning CODE
meaning() {
    case $1 in
        0) echo "done" ;;
        2) echo "wrong usage, configuration or data: correct it before running it again" ;;
        42) echo "stopped early with a good checkpoint: the same command continues" ;;
        142) echo "hung, and freed by its watchdog: the same command continues from the last checkpoint" ;;
        *)
            if worth_retrying "$1"; then
                echo "killed: the same command continues from the last checkpoint"
            else
                echo "crashed or diverged: the reason is in the log"
            fi
            ;;
    esac
}
