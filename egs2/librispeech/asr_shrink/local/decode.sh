# shellcheck shell=bash
# Decoding of one model after the other by asr.sh's stage 12; sourced by shrink.sh.
# What has been decoded already, from the same model, data and options, is not decoded again.

# option NAME: the value that asr.sh is given for an option.
option() {
    local i
    for ((i = ${#asr_opts[@]} - 2; i >= 0; i -= 2)); do
        if [ "${asr_opts[i]//-/_}" = "__$1" ]; then echo "${asr_opts[i + 1]}"; break; fi
    done
}

# decoding_program: that of ESPnet which stage 12 calls.
decoding_program() {
    local task variant=""
    task=$(option asr_task)
    if [ "${task:-asr}" = asr ]; then
        [ "$(option use_maskctc)" != true ] || variant=_maskctc
        [ "$(option use_streaming)" != true ] || variant=_streaming
    fi
    echo "${task:-asr}_inference${variant}"
}

# decoding_options: all that asr.sh is given, but for what hypotheses do not depend on.
decoding_options() {
    local i name
    for ((i = 0; i < ${#asr_opts[@]}; i += 2)); do
        name=${asr_opts[i]//-/_}
        case ${name#__} in
            nj | inference_nj | ngpu | python | dumpdir | expdir | train_set | valid_set | test_sets) ;;
            local_data_opts | lang | nbpe | max_wav_duration | audio_format | skip_train | skip_stages) ;;
            asr_config | asr_exp | asr_stats_dir | inference_tag | inference_asr_model | inference_args) ;;
            *) echo "${name} ${asr_opts[i + 1]}" ;;
        esac
    done
}

# digests FILE...: of those that exist.
digests() {
    local file
    for file in "$@"; do
        [ ! -f "${file}" ] || sha256sum "${file}"
    done
}

# asr_name SET: what asr.sh calls a set that it decodes. The dev set among them is as before stage 4.
asr_name() {
    if [ "$1" = "${valid_set}" ]; then echo "org/$1"; else echo "$1"; fi
}

# decode EXP CHECKPOINT TAG [INFERENCE_ARGS]: EXP/TAG/SET/text for every test set.
decode() {
    local exp=$1 checkpoint=$2 tag=$3 args=${4-$(option inference_args)} source set name pending=""
    local lm_exp inference_lm
    lm_exp=$(option lm_exp) inference_lm=$(option inference_lm)
    source="$(decoding_options)
${args}
$(digests "${exp}/config.yaml" "${exp}/${checkpoint}" "$(option inference_config)" \
        "${lm_exp}/config.yaml" "${lm_exp}/${inference_lm:-valid.loss.ave.pth}")"
    for set in ${test_sets}; do
        state "${set}" | cmp -s - "${exp}/${tag}/$(asr_name "${set}")/.decoded" || pending+="${set} "
    done
    if [ -z "${pending}" ]; then
        log "already decoded: ${exp}/${tag}"
        return
    fi
    log "${exp}: ${checkpoint} -> ${exp}/${tag}"
    ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" --asr_exp "${exp}" --inference_asr_model "${checkpoint}" \
        --inference_tag "${tag}" --test_sets "${pending}" --inference_args "${args}" --stage 12 --stop_stage 12 \
        || return
    for set in ${pending}; do
        name=${exp}/${tag}/$(asr_name "${set}")
        [ -f "${name}/text" ] || fail "no ${name}/text: asr.sh has not decoded ${set} (--skip_eval, --skip_stages?)"
        state "${set}" > "${name}/.decoded.part"
        mv -f "${name}/.decoded.part" "${name}/.decoded"
    done
}
# state SET: what its hypotheses come from, and what they are; with the variables of `decode`.
state() {
    local name
    name=$(asr_name "$1")
    echo "${source}"
    digests "${data_root}/${name}"/{wav.scp,utt2md5,utt2num_samples} "${exp}/${tag}/${name}/text"
}

# why_no_int8 EXP: what keeps ESPnet from decoding the model with weights of 8 bits, if anything does.
why_no_int8() {
    if [[ $(decoding_program) == *_@(streaming|maskctc) ]]; then
        echo "ESPnet's $(decoding_program) cannot quantise"
    elif grep -q '^decoder: transducer' "$1/config.yaml"; then
        echo "ESPnet's search for a transducer decoder cannot run a quantised joint network"
    fi
}

# decode_int8 EXP CHECKPOINT TAG: the same with weights of 8 bits. A model that cannot be decoded so
# has no such row in the report; that is no reason to have no report.
decode_int8() {
    local why folder=$1/$3_int8 args
    args="--quantize_asr_model true --quantize_modules Linear LSTM --quantize_dtype qint8"
    why=$(why_no_int8 "$1")
    if [ -z "${why}" ] && ! decode "$1" "$2" "$3_int8" "$(option inference_args) ${args}"; then
        mkdir -p "${folder}" # asr.sh may have ended before it made it
        rm -rf "${folder}_failed"
        mv -f "${folder}" "${folder}_failed"
        why="it cannot be decoded, see ${folder}_failed"
    fi
    rm -f "${folder}_left_out.txt"
    if [ -n "${why}" ]; then
        log "No row of the quantised model: ${why}"
        echo "${why}" > "${folder}_left_out.txt" # for the report
    fi
}
