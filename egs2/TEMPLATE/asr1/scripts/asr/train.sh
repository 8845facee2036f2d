# Stages 10-11: statistics and training of the recogniser; what the language model shares with them.

# sum_stats FOLDER COUNT [OPTION]: put the statistics of COUNT jobs together.
sum_stats() {
    local folder=$1 count=$2 dirs="" i part
    shift 2
    for i in $(seq "${count}"); do
        dirs+="--input_dir ${folder}/logdir/stats.${i} "
    done
    # shellcheck disable=SC2086
    run_jobs "${train_cmd}" 1 "${folder}/logdir/aggregate.log" \
        ${python} -m espnet2.bin.aggregate_stats_dirs ${dirs} --output_dir "${folder}" "$@"
    # The number of tokens, as a last dimension, is what batch_bins counts with.
    for part in train valid; do
        awk -v n="$(count_lines "${token_list}")" '{ print $0 "," n }' "${folder}/${part}/text_shape" \
            >"${folder}/${part}/text_shape.${token_type}.part"
        mv -f "${folder}/${part}/text_shape.${token_type}.part" \
            "${folder}/${part}/text_shape.${token_type}"
    done
}

# split_training FOLDER N FILE...: ESPnet's parts of a training set too large to read at once.
split_training() {
    split_dir=$1
    local count=$2
    shift 2
    # shellcheck disable=SC2086
    run_jobs "${train_cmd}" 1 "${split_dir}/split.log" \
        ${python} -m espnet2.bin.split_scps --scps "$@" --num_splits "${count}" \
        --output_dir "${split_dir}"
}

require_gpus() {
    local found
    [ "${ngpu}" -gt 0 ] || return 0
    found=$(python3 -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) \
        || fail "PyTorch is missing: pip install espnet_shrink"
    [ "${found}" -ge "${ngpu}" ] \
        || fail "--ngpu ${ngpu}, but PyTorch finds ${found} GPUs: use --ngpu 0 to train on the CPU"
}

# begin_training FOLDER CONFIG OPTIONS INPUTS: see to it that what is in FOLDER, if anything, comes
# from a training with the same options and inputs, so that it can be resumed. What another training
# left is moved aside. More epochs (max_epoch) are no other training.
begin_training() {
    local folder=$1 config=$2 options=$3 inputs=$4 marker=$1/.started known=false
    lock "${folder}/.train.lock"
    options=$(echo "${options}" | sed -E 's/--max_epoch[ =]+[0-9]+//g')
    [ -z "${config}" ] || options+=" $(sed '/^max_epoch *:/d' "${config}" | cksum)"
    [ -z "$(existing "${marker}" "${marker}.pending")" ] || known=true
    if ! same_training; then
        if "${known}" && [ -f "${folder}/checkpoint.pth" ]; then
            local old=1
            while [ -e "${folder}.old${old}" ]; do
                old=$((old + 1))
            done
            log "Options or data have changed: ${folder} is kept as ${folder}.old${old}"
            mv "${folder}" "${folder}.old${old}"
            mkdir -p "${folder}"
            same_training || true
        fi
        python3 pyscripts/once.py mark "${marker}"
    fi
    unlock
}
same_training() { # with the variables of begin_training
    local status=0
    # shellcheck disable=SC2086,SC2154
    python3 pyscripts/once.py check "${marker}" --command "${options}" --inputs ${inputs} \
        || status=$?
    [ "${status}" -le 1 ] || exit "${status}"
    return "${status}"
}

# train_model FOLDER COMMAND...: train, showing the epochs as they end.
train_model() {
    local folder=$1 status=0 number
    shift
    if [ -f "${folder}/train.log" ]; then
        number=1
        while [ -e "${folder}/train.${number}.log" ]; do
            number=$((number + 1))
        done
        mv "${folder}/train.log" "${folder}/train.${number}.log"
    fi
    log "Training started... log: '${folder}/train.log'"
    "${TIED[@]}" python3 pyscripts/progress.py train "${folder}/train.log" &
    local follower=$!
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=${ALL_THREADS} "${TIED[@]}" ${cuda_cmd} --name "${folder}/train.log" \
        --gpu "${ngpu}" "${folder}/train.log" "$@" --multiprocessing_distributed true || status=$?
    stop_follower "${follower}"
    [ "${status}" -eq 0 ] || exit "${status}"
}
stop_follower() {
    kill "$1" 2>/dev/null || true
    wait "$1" || true
}

# What every asr_train call needs.
asr_options() {
    echo --use_preprocessor true --bpemodel "${bpemodel}" --token_type "${token_type}" \
        --token_list "${token_list}" --non_linguistic_symbols "${nlsyms_txt}" \
        --cleaner "${cleaner}" --g2p "${g2p}" ${asr_config:+--config "${asr_config}"} \
        --frontend_conf "fs=${fs}"
}
# asr_data TRAIN_OR_VALID FOLDER: where the speech and its text are.
asr_data() {
    echo --"$1"_data_path_and_name_and_type "$2/wav.scp,speech,sound" \
        --"$1"_data_path_and_name_and_type "$2/text,text,text"
}
asr_inputs() {
    local set name
    for set in "${train_set}" "${valid_set}"; do
        for name in wav.scp text utt2md5; do
            echo "${data_feats}/${set}/${name}"
        done
    done
    echo "${token_list}"
}

stage_10() {
    local train_dir=${data_feats}/${train_set} valid_dir=${data_feats}/${valid_set}
    log "Stage 10: ASR collect stats: train_set=${train_dir}, valid_set=${valid_dir}"
    write_resume_script "${asr_stats_dir}" 10
    local outputs="" part stats=
    for part in train valid; do
        outputs+="${asr_stats_dir}/${part}/speech_shape "
        outputs+="${asr_stats_dir}/${part}/text_shape.${token_type} "
    done
    [ "${feats_normalize}" != global_mvn ] || stats=${asr_stats_dir}/train/feats_stats.npz
    once "${asr_stats_dir}/.stats" "${asr_task} $(asr_options) ${asr_args} ${feats_normalize}" \
        "$(asr_inputs) $(existing "${asr_config}")" "${outputs} ${stats}" \
        collect_asr_stats "${train_dir}" "${valid_dir}"
}
collect_asr_stats() {
    local logdir=${asr_stats_dir}/logdir count
    count=$(count_jobs "${nj}" "$1/wav.scp" "$2/wav.scp")
    rm -rf "${logdir}"
    mkdir -p "${logdir}"
    split_file "$1/wav.scp" "${count}" "${logdir}/train." .scp
    split_file "$2/wav.scp" "${count}" "${logdir}/valid." .scp
    log "ASR collect-stats started... log: '${logdir}/stats.*.log'"
    # shellcheck disable=SC2046,SC2086
    run_jobs "${train_cmd}" "${count}" "${logdir}/stats.JOB.log" \
        ${python} -m espnet2.bin.${asr_task}_train --collect_stats true $(asr_options) \
        $(asr_data train "$1") $(asr_data valid "$2") \
        --train_shape_file "${logdir}/train.JOB.scp" --valid_shape_file "${logdir}/valid.JOB.scp" \
        --output_dir "${logdir}/stats.JOB" ${asr_args}
    if [ "${feats_normalize}" = global_mvn ]; then
        sum_stats "${asr_stats_dir}" "${count}"
    else
        sum_stats "${asr_stats_dir}" "${count}" --skip_sum_stats
    fi
}

stage_11() {
    local train_dir=${data_feats}/${train_set} valid_dir=${data_feats}/${valid_set} inputs part
    log "Stage 11: ASR Training: train_set=${train_dir}, valid_set=${valid_dir}"
    inputs=$(asr_inputs)
    for part in train valid; do
        inputs+=" ${asr_stats_dir}/${part}/speech_shape"
        inputs+=" ${asr_stats_dir}/${part}/text_shape.${token_type}"
    done
    local options
    options="${asr_task} $(asr_options) ${asr_args} ${asr_speech_fold_length}
        ${asr_text_fold_length} ${num_splits_asr} ${auxiliary_data_tags} ${ignore_init_mismatch}"
    if [ "${feats_normalize}" = global_mvn ]; then
        inputs+=" ${asr_stats_dir}/train/feats_stats.npz"
        options+=" global_mvn"
    fi
    # ESPnet's form is FILE[:SOURCE:TARGET:EXCEPT].
    [ -z "${pretrained_model}" ] || inputs+=" ${pretrained_model%%:*}"
    begin_training "${asr_exp}" "${asr_config}" "${options} ${pretrained_model}" "${inputs}"
    write_resume_script "${asr_exp}" 11
    # A model that was removed is made again.
    [ -e "${asr_exp}/${inference_asr_model}" ] || rm -f "${asr_exp}/.train.done"
    once "${asr_exp}/.train" "${options} ${pretrained_model}" \
        "${inputs} $(existing "${asr_config}")" "${asr_exp}/config.yaml" \
        train_asr "${train_dir}" "${valid_dir}"
}
train_asr() {
    local folder=$1 shapes=${asr_stats_dir}/train more="" tag
    if [ "${num_splits_asr}" -gt 1 ]; then
        split_training "${asr_stats_dir}/splits${num_splits_asr}" "${num_splits_asr}" \
            "$1/wav.scp" "$1/text" "${shapes}/speech_shape" "${shapes}/text_shape.${token_type}"
        folder=${split_dir}
        shapes=${split_dir}
        more+=" --multiple_iterator true"
    elif [ -n "${auxiliary_data_tags}" ]; then
        more+=" --allow_variable_data_keys True"
        for tag in ${auxiliary_data_tags}; do
            more+=" --train_data_path_and_name_and_type $1/${tag},text,text"
        done
    fi
    [ "${feats_normalize}" != global_mvn ] || more+=" --normalize=global_mvn
        --normalize_conf stats_file=${asr_stats_dir}/train/feats_stats.npz"
    # shellcheck disable=SC2046,SC2086
    train_model "${asr_exp}" \
        ${python} -m espnet2.bin.${asr_task}_train --ngpu "${ngpu}" $(asr_options) \
        $(asr_data train "${folder}") --train_shape_file "${shapes}/speech_shape" \
        --train_shape_file "${shapes}/text_shape.${token_type}" \
        $(asr_data valid "$2") --valid_shape_file "${asr_stats_dir}/valid/speech_shape" \
        --valid_shape_file "${asr_stats_dir}/valid/text_shape.${token_type}" \
        --fold_length "$((asr_speech_fold_length * 100))" --fold_length "${asr_text_fold_length}" \
        --resume true ${pretrained_model:+--init_param ${pretrained_model}} \
        --ignore_init_mismatch "${ignore_init_mismatch}" --output_dir "${asr_exp}" \
        ${more} ${asr_args}
}
