#!/usr/bin/env bash
# Stages 16-22: from a trained model to a small one. Called by run.sh; what follows `--` are the
# options with which asr.sh decodes the compressed models (stage 20).
set -e
set -u
set -o pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (shrink.sh) $*"; }
fail() { echo "shrink.sh: Error: $*" >&2; exit 2; }

stage=16
stop_stage=22
ngpu=0
corpus=
asr_exp=         # the uncompressed model
shrink_exp=      # where all of this goes
data_root=       # dump/raw
valid_set=       # dev data: the only data on which anything is chosen
test_sets=       # decoded at the end, for the report; the dev set may be one of them
inference_tag=
inference_asr_model=
train_data=      # to retrain on; empty: what the config of asr_exp names
target=
rounds_config=conf/rounds.yaml
search_config=conf/search.yaml
proxy_size=100
workers=         # that score plans; empty: this process
seed=0
run_command=

while [ $# -gt 0 ] && [ "$1" != -- ]; do
    printf -v "${1#--}" '%s' "$2"
    shift 2
done
shift
asr_opts=("$@")

. ./path.sh
. ./cmd.sh

model=(--exp "${asr_exp}" --checkpoint "${inference_asr_model}")

dev=${data_root}/${valid_set}
decoded_sets=
for name in ${test_sets}; do
    # The dev set among them is decoded by asr.sh as it was before stage 4.
    [ "${name}" != "${valid_set}" ] || name=org/${name}
    decoded_sets+="${name} "
done
here=$(dirname "$0")
tied=()
if command -v setpriv > /dev/null; then tied=(setpriv --pdeathsig KILL --); fi
shrink() { ${tied[@]+"${tied[@]}"} python3 -W ignore -m espnet_shrink.cli "$@"; }
# submit COMMAND VERB OPTION...: on this machine as it is, with its progress; on a cluster as a job.
submit() {
    local command=$1 output=${shrink_exp}/log/$2.log status=0
    shift
    if [ "${cmd_backend}" = local ]; then
        shrink "$@"
        return
    fi
    log "A job of cmd_backend=${cmd_backend}, log: '${output}'"
    mkdir -p "${shrink_exp}/log"
    # Not tied: interrupted, the backend's script still has to take the job from the queue.
    # shellcheck disable=SC2086
    ${command} "${output}" python3 -W ignore -m espnet_shrink.cli "$@" || status=$?
    { sed '/^#/d' "${output}" || true; } | tail -n 1 # what the verb said last, of success or of failure
    [ "${status}" -eq 0 ] || fail "the job failed, see ${output}"
}
runs() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }
option() { # the value that asr.sh is given for an option
    local i
    for ((i = ${#asr_opts[@]} - 2; i >= 0; i -= 2)); do
        if [ "${asr_opts[i]//-/_}" = "__$1" ]; then echo "${asr_opts[i + 1]}"; break; fi
    done
}
final_exp() {
    sed -n 's/^final: \([0-9][0-9]*\)$/round\1/p' "${shrink_exp}/rounds.yaml" 2> /dev/null || true
}

[ -f "${asr_exp}/config.yaml" ] || fail "no trained model in ${asr_exp}: run stages 10 and 11 first"

if runs 16; then
    log "Stage 16: Proxy set: ${proxy_size} utterances of ${dev} -> ${shrink_exp}/proxy"
    submit "${train_cmd}" proxy "${model[@]}" --data "${dev}" --out "${shrink_exp}/proxy" \
        --size "${proxy_size}" --seed "${seed}"
fi

if runs 17; then
    log "Stage 17: Search space -> ${shrink_exp}/space.yaml"
    shrink space "${model[@]}" --out "${shrink_exp}" --search_config "${search_config}"
fi

if runs 18; then
    log "Stage 18: Rank search for the first round -> ${shrink_exp}/search/plan.yaml"
    submit "${train_cmd}" search "${model[@]}" --proxy "${shrink_exp}/proxy" --data "${dev}" \
        --out "${shrink_exp}/search" --space "${shrink_exp}/space.yaml" --search_config "${search_config}" --seed "${seed}" \
        --rounds_config "${rounds_config}" ${target:+--target "${target}"} ${workers:+--workers "${workers}"}
fi

if runs 19; then
    log "Stage 19: Rounds of search, factorise and retrain -> ${shrink_exp}/round*"
    submit "${cuda_cmd} --gpu ${ngpu}" rounds "${model[@]}" --proxy "${shrink_exp}/proxy" --data "${dev}" \
        --out "${shrink_exp}" --plan "${shrink_exp}/search/plan.yaml" --seed "${seed}" \
        --rounds_config "${rounds_config}" --search_config "${search_config}" --ngpu "${ngpu}" \
        ${train_data:+--train "${train_data}"} ${target:+--target "${target}"} ${workers:+--workers "${workers}"}
fi

if runs 20; then
    log "Stage 20: Decode as in stage 12" # stage 21 scores: sclite, of ESPnet's stage 13, is not needed
    exps=("${asr_exp}")
    [ ! -f "${shrink_exp}/control/.trained" ] || exps+=("${shrink_exp}/control")
    for record in "${shrink_exp}"/round*/round.yaml; do
        [ -f "${record}" ] || fail "no rounds in ${shrink_exp}: run stage 19 first"
        grep -q '^status: accepted' "${record}" || continue
        round=$(dirname "${record}")
        exps+=("${round}")
        # The same model as factorised, for the gain of retraining.
        ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" --asr_exp "${round}" \
            --inference_asr_model init.pth --inference_tag "${inference_tag}_before_retraining" \
            --stage 12 --stop_stage 12
    done
    for exp in "${exps[@]}"; do
        ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" --asr_exp "${exp}" --stage 12 --stop_stage 12
    done
    final=$(final_exp)
    if [[ "$(option use_streaming)$(option use_maskctc)" = *true* ]]; then
        log "No row of the quantised model: ESPnet's streaming and Mask-CTC decoding cannot quantise"
    elif [ -n "${final}" ]; then
        ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" --asr_exp "${shrink_exp}/${final}" \
            --inference_tag "${inference_tag}_int8" --stage 12 --stop_stage 12 --inference_args \
            "$(option inference_args) --quantize_asr_model true --quantize_modules Linear LSTM --quantize_dtype qint8"
    fi
fi

if runs 21; then
    log "Stage 21: Report -> ${shrink_exp}/{results.json,RESULTS.md,report.html,*.png}"
    shrink report --exp "${asr_exp}" --out "${shrink_exp}" --data_root "${data_root}" \
        --test_sets "${decoded_sets}" --inference_tag "${inference_tag}" --corpus "${corpus}" \
        --command "${run_command}" | tee "${shrink_exp}/summary.txt"
fi

if runs 22; then
    final=$(final_exp)
    [ -n "${final}" ] || fail "no round of ${shrink_exp} was accepted: there is no model to pack"
    final=${shrink_exp}/${final}
    packed=${final}/${final##*/}_${inference_asr_model%.*}.zip
    log "Stage 22: Pack ${packed}"
    lm=
    if [ "$(option use_lm)" = true ]; then lm=$(option lm_exp); fi
    shrink pack --exp "${final}" --checkpoint "${inference_asr_model}" --base "${asr_exp}" \
        --report "${shrink_exp}" --out "${packed}" ${lm:+--lm "${lm}"} > "${final}/pack.log"
    # The table last, where a user looks first.
    [ ! -f "${shrink_exp}/summary.txt" ] || cat "${shrink_exp}/summary.txt"
    echo "packed: ${packed}"
fi
