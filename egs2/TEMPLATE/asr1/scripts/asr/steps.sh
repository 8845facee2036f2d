# What every stage is made of: messages, jobs, and steps that are done once.

log() {
    local file=${BASH_SOURCE[1]##*/}
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (${file}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

# fail MESSAGE: one line, exit status 2. For what the user can mend.
fail() {
    echo "asr.sh: Error: $*" >&2
    exit 2
}

# is_selected STAGE: is it between --stage and --stop_stage, and not left out?
is_selected() {
    [ "$1" -ge "${stage}" ] && [ "$1" -le "${stop_stage}" ] && ! [[ " ${skip_stages} " == *" $1 "* ]]
}

help_text() {
    cat <<MESSAGE
Usage: $0 --train_set NAME --valid_set NAME --test_sets "NAME..." [option value]...

Stages: 1 data, 2 speed perturbation, 3 format audio, 4 remove long, short and empty utterances,
5 tokens, 6-8 language model (statistics, training, perplexity), 9 n-gram (not supported),
10 statistics, 11 training, 12 decoding, 13 scoring, 14 packing, 15 upload.

A stage that has been done with the same options and inputs is not done again; a stage that was
interrupted goes on where it can. To force one, remove the .done file of its output folder.
Example: $0 --ngpu 0 --nj 4 --use_lm false --train_set train --valid_set dev --test_sets test

MESSAGE
    awk -F '[ ]*# ' '/^## / { printf "\n%s:\n", substr($0, 4) }
        /^[a-z].*=/ { name = $1; sub(/=.*/, "", name); value = $1; sub(/^[^=]*=/, "", value)
            printf "  --%-30s %s%s\n", name, $2, (value == "" ? "" : " (default: " value ")") }' \
        scripts/asr/options.sh
}

# Jobs die with us, even at kill -9: an orphan would write into the folder of the next run.
TIED=()
if command -v setpriv >/dev/null; then
    TIED=(setpriv --pdeathsig KILL --)
fi
ALL_THREADS=${OMP_NUM_THREADS:-$(nproc)}
PROCESSORS=$(env -u OMP_NUM_THREADS nproc)

# run_jobs COMMAND N LOG PROGRAM...: N parallel jobs of one thread each; JOB stands for the number.
run_jobs() {
    local command=$1 count=$2
    shift 2
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 "${TIED[@]}" ${command} JOB=1:"${count}" "$@"
}

# lock FILE: hold FILE until `unlock`, or until this process and its jobs are gone.
lock() {
    mkdir -p "$(dirname "$1")"
    exec {lock_fd}>>"$1"
    # Jobs of a killed run may need a moment to go.
    flock -w 5 "${lock_fd}" || fail "$(dirname "$1") is in use by another run: wait for it to end"
}
unlock() {
    exec {lock_fd}>&-
}

# once MARKER COMMAND INPUTS OUTPUTS FUNCTION [ARG]...: call FUNCTION unless MARKER.done says that
# COMMAND (a text that names all options that matter) has been done with these INPUTS (files or
# folders, compared by content) and that its OUTPUTS are still what they were.
once() {
    local marker=$1 command=$2 inputs=$3 outputs=$4 status=0
    shift 4
    lock "${marker}.lock"
    # shellcheck disable=SC2086
    python3 pyscripts/once.py check "${marker}.done" --command "${command}" \
        --inputs ${inputs} --outputs ${outputs} || status=$?
    case ${status} in
        0) log "already done: ${marker}" ;;
        1)
            "$@"
            # shellcheck disable=SC2086
            python3 pyscripts/once.py mark "${marker}.done" --outputs ${outputs}
            ;;
        *) exit "${status}" ;;
    esac
    unlock
}

# existing FILE...: those of the files that exist.
existing() {
    local file
    for file in "$@"; do
        [ ! -e "${file}" ] || echo "${file}"
    done
}

count_lines() {
    awk 'END { print NR }' "$1"
}

# count_jobs LIMIT FILE...: no more jobs than the shortest file has lines, nor than processors
# here: jobs that wait for one would only load ESPnet once more.
count_jobs() {
    local smallest=$1 lines file
    shift
    [ "${smallest}" -le "${PROCESSORS}" ] || smallest=${PROCESSORS}
    for file in "$@"; do
        lines=$(count_lines "${file}")
        [ "${lines}" -ge "${smallest}" ] || smallest=${lines}
    done
    echo "${smallest}"
}

# split_file FILE N PREFIX SUFFIX: N parts of nearly equal length, PREFIX1SUFFIX, PREFIX2SUFFIX, ...
split_file() {
    awk -v total="$(count_lines "$1")" -v n="$2" -v prefix="$3" -v suffix="$4" \
        '{ print > (prefix (int((NR - 1) * n / total) + 1) suffix) }' "$1"
}

# merge OUTPUT INPUT...: the sorted lines of the inputs, never half-written.
merge() {
    local output=$1
    shift
    sort -k1,1 "$@" >"${output}.part"
    mv -f "${output}.part" "${output}"
}

# write_resume_script FOLDER STAGE: as ESPnet does, leave a script that resumes at this stage.
write_resume_script() {
    mkdir -p "$1"
    log "Generate '$1/run.sh'. You can resume the process from stage $2 using this script"
    echo "${run_args} --stage $2 \"\$@\"; exit \$?" >"$1/run.sh.part"
    chmod +x "$1/run.sh.part"
    mv -f "$1/run.sh.part" "$1/run.sh"
}
