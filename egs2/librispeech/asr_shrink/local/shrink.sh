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
inference_asr_model=  # empty: the checkpoint that the config of each experiment chooses
train_data=      # to retrain on; empty: what the config of asr_exp names
target=          # compression; several, 2x,3x,5x, each have a folder of rounds in shrink_exp
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

# Who has chosen a number of threads is obeyed; without, ESPnet's path.sh would choose one, which suits
# its own many jobs, but not our few that use all cores.
threads=${OMP_NUM_THREADS:-}
. ./path.sh
. ./cmd.sh
unset OMP_NUM_THREADS
[ -z "${threads}" ] || export OMP_NUM_THREADS=${threads}

model=(--exp "${asr_exp}" ${inference_asr_model:+--checkpoint "${inference_asr_model}"})
dev=${data_root}/${valid_set}
here=$(dirname "$0")
tied=()
if command -v setpriv > /dev/null; then tied=(setpriv --pdeathsig KILL --); fi
shrink() { ${tied[@]+"${tied[@]}"} python3 -W ignore -m espnet_shrink.cli "$@"; }
# submit COMMAND VERB OPTION...: on this machine as it is, with its progress; on a cluster as a job, which
# gets as many processors as OMP_NUM_THREADS says.
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
    # shellcheck disable=SC2086  # a command with its options
    ${command} ${threads:+--num_threads ${threads}} "${output}" \
        env ${threads:+OMP_NUM_THREADS=${threads}} python3 -W ignore -m espnet_shrink.cli "$@" || status=$?
    { sed '/^#/d' "${output}" || true; } | tail -n 1 # what the verb said last, of success or of failure
    [ "${status}" -eq 0 ] || fail "the job failed, see ${output}"
}
runs() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }
# final_exp FOLDER: the experiment folder of the final model of its rounds, if there is one.
final_exp() {
    sed -n "s|^final: \([0-9][0-9]*\)\$|$1/round\1|p" "$1/rounds.yaml" 2> /dev/null || true
}
# Every size has a folder of its own; a single one is shrink_exp itself.
IFS=, read -r -a targets <<< "${target:-}"
rounds_of=("${shrink_exp}")
if [ "${#targets[@]}" -gt 1 ]; then
    rounds_of=()
    for i in "${!targets[@]}"; do rounds_of+=("${shrink_exp}/${targets[i]%[xX]}x"); done
fi

checkpoints() { python3 -W ignore "${here}/checkpoints.py" --checkpoint "${inference_asr_model}" "$@"; }
. "${here}/decode.sh"

[ -f "${asr_exp}/config.yaml" ] || fail "no trained model in ${asr_exp}: run stages 10 and 11 first"

if runs 20 && [ "${stage}" -lt 20 ]; then
    # shellcheck disable=SC2046  # several options
    python3 -W ignore "${here}/check_decoding.py" "$(decoding_program)" --config "$(option inference_config)" \
        $(option inference_args)
fi

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
    for i in "${!rounds_of[@]}"; do
        size=${targets[i]:-}
        log "Stage 18: Rank search for the first round${size:+ to ${size}} -> ${rounds_of[i]}/search/plan.yaml"
        submit "${train_cmd}" search "${model[@]}" --proxy "${shrink_exp}/proxy" --data "${dev}" \
            --out "${rounds_of[i]}/search" --space "${shrink_exp}/space.yaml" --search_config "${search_config}" \
            --seed "${seed}" --rounds_config "${rounds_config}" ${train_data:+--train "${train_data}"} \
            ${size:+--target "${size}"} ${workers:+--workers "${workers}"}
    done
fi

if runs 19; then
    for i in "${!rounds_of[@]}"; do
        size=${targets[i]:-}
        log "Stage 19: Rounds of search, factorise and retrain${size:+ to ${size}} -> ${rounds_of[i]}/round*"
        submit "${cuda_cmd} --gpu ${ngpu}" rounds "${model[@]}" --proxy "${shrink_exp}/proxy" --data "${dev}" \
            --out "${rounds_of[i]}" --plan "${rounds_of[i]}/search/plan.yaml" --seed "${seed}" \
            --rounds_config "${rounds_config}" --search_config "${search_config}" --space "${shrink_exp}/space.yaml" \
            --ngpu "${ngpu}" ${train_data:+--train "${train_data}"} ${size:+--target "${size}"} \
            ${workers:+--workers "${workers}"}
    done
fi

if runs 20; then
    log "Stage 20: Decode as in stage 12" # stage 21 scores: sclite, of ESPnet's stage 13, is not needed
    exps=("${asr_exp}")
    finals=
    for folder in "${rounds_of[@]}"; do
        [ ! -f "${folder}/control/.trained" ] || exps+=("${folder}/control")
        for record in "${folder}"/round*/round.yaml; do
            [ -f "${record}" ] || fail "no rounds in ${folder}: run stage 19 first"
            grep -q '^status: accepted' "${record}" || continue
            round=$(dirname "${record}")
            exps+=("${round}")
            # The same model as factorised, for the gain of retraining.
            decode "${round}" init.pth "${inference_tag}_before_retraining"
        done
        finals+=" $(final_exp "${folder}") "
    done
    chosen=$(checkpoints "${exps[@]}")
    mapfile -t chosen <<< "${chosen}"
    for i in "${!exps[@]}"; do
        decode "${exps[i]}" "${chosen[i]}" "${inference_tag}"
        [[ "${finals}" != *" ${exps[i]} "* ]] || decode_int8 "${exps[i]}" "${chosen[i]}" "${inference_tag}"
    done
fi

if runs 21; then
    log "Stage 21: Report -> ${shrink_exp}/{results.json,RESULTS.md,report.html,*.png}"
    decoded_sets=
    for name in ${test_sets}; do
        decoded_sets+="$(asr_name "${name}") "
    done
    shrink report --exp "${asr_exp}" --out "${shrink_exp}" --data_root "${data_root}" \
        --test_sets "${decoded_sets}" --inference_tag "${inference_tag}" --corpus "${corpus}" \
        --command "${run_command}" | tee "${shrink_exp}/summary.txt"
fi

if runs 22; then
    lm=
    if [ "$(option use_lm)" = true ]; then lm=$(option lm_exp); fi
    archives=()
    for folder in "${rounds_of[@]}"; do
        final=$(final_exp "${folder}")
        if [ -z "${final}" ]; then
            log "No round of ${folder} was accepted: there is no model to pack"
            continue
        fi
        checkpoint=$(checkpoints "${final}")
        archives+=("${final}/${final##*/}_${checkpoint%.*}.zip")
        log "Stage 22: Pack ${archives[-1]}"
        shrink pack --exp "${final}" --checkpoint "${checkpoint}" --base "${asr_exp}" \
            --report "${shrink_exp}" --out "${archives[-1]}" ${lm:+--lm "${lm}"} > "${final}/pack.log"
    done
    [ "${#archives[@]}" -gt 0 ] || fail "no round of ${shrink_exp} was accepted: there is no model to pack"
    # The table last, where a user looks first.
    [ ! -f "${shrink_exp}/summary.txt" ] || cat "${shrink_exp}/summary.txt"
    printf 'packed: %s\n' "${archives[@]}"
fi
