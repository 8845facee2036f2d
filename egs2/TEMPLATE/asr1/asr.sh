#!/usr/bin/env bash
# Train, decode and score an ESPnet speech recogniser with nothing but what pip installs.
# Options, stages and folders are those of ESPnet's own asr.sh. Run it in a recipe's folder.
set -euo pipefail

. scripts/asr/steps.sh
. scripts/asr/options.sh
help_message=$(help_text)

log "$0 $*"
run_args=$(printf '%q ' "$0" "$@")
. utils/parse_options.sh
[ $# -eq 0 ] || fail "'$1' is no option; see $0 --help"

. ./path.sh
. ./cmd.sh
. scripts/asr/checks.sh
. scripts/asr/names.sh

. scripts/asr/data.sh
. scripts/asr/lm.sh
. scripts/asr/train.sh
. scripts/asr/decode.sh
. scripts/asr/pack.sh

# In braces, so that bash has read it all: a change of this file does not disturb a run.
{
    log "Skipped stages: ${skip_stages}"
    if is_selected 7 || is_selected 8 || is_selected 11; then
        require_gpus
    fi
    for _stage in $(seq 15); do
        if is_selected "${_stage}"; then
            "stage_${_stage}"
        fi
        if [ "${_stage}" -eq 11 ] && [ -n "${download_model}" ]; then
            use_downloaded_model
        fi
    done
    log "Successfully finished. [elapsed=${SECONDS}s]"
    exit 0
}
