# Stages 1-5: from a corpus to formatted data and a token list.

used_sets() {
    if "${skip_train}"; then
        ! "${eval_valid_set}" || echo "${valid_set}"
    else
        echo "$1" "${valid_set}"
    fi
    echo "${test_sets}"
}

stage_1() {
    log "Stage 1: Data preparation for data/${source_train_set}, data/${valid_set}, etc."
    [ -x local/data.sh ] || fail "local/data.sh is missing: run asr.sh in a recipe's folder"
    local outputs="" set
    for set in $(used_sets "${source_train_set}"); do
        outputs+="data/${set}/wav.scp data/${set}/text data/${set}/utt2spk "
    done
    # Each set of options has its own marker, so that corpora can live side by side.
    once "data/.prepare_$(echo "${local_data_opts}" | cksum | cut -d ' ' -f 1)" \
        "local/data.sh ${local_data_opts}" "local $(existing db.sh)" "${outputs}" prepare_data
}
prepare_data() {
    # shellcheck disable=SC2086
    "${TIED[@]}" local/data.sh ${local_data_opts}
}

stage_2() {
    if [ -z "${speed_perturb_factors}" ]; then
        log "Skip stage 2: Speed perturbation"
        return
    fi
    local from=data/${source_train_set} to=data/${train_set}
    log "Stage 2: Speed perturbation: ${from} -> ${to}"
    # shellcheck disable=SC2086
    once "${to}/.speed" "${speed_perturb_factors}" \
        "${from}/wav.scp ${from}/text ${from}/utt2spk $(existing "${from}/segments")" \
        "${to}/wav.scp ${to}/text ${to}/utt2spk ${to}/spk2utt ${to}/utt2speed" \
        python3 pyscripts/perturb_speed.py "${from}" "${to}" ${speed_perturb_factors}
}

stage_3() {
    log "Stage 3: Format wav.scp: data/ -> ${data_feats}"
    local set sets dir name outputs
    sets=$(used_sets "${train_set}")
    # shellcheck disable=SC2046,SC2086
    python3 pyscripts/data_dir.py check $(printf 'data/%s ' ${sets})
    for set in ${sets}; do
        dir=$(org_dir "${set}")
        outputs=
        for name in wav.scp text utt2spk spk2utt utt2num_samples utt2md5 feats_type audio_format; do
            outputs+="${dir}/${name} "
        done
        once "${dir}/.format" "${feats_type} ${audio_format} ${sample_rate}" \
            "data/${set}/wav.scp data/${set}/text data/${set}/utt2spk audio:data/${set}/wav.scp
            $(existing "data/${set}/segments" "data/${set}/utt2speed")" \
            "${outputs}" format_set "data/${set}" "${dir}"
    done
}
format_set() {
    local from=$1 to=$2 options="" keys=$1/wav.scp count
    if [ -f "${from}/segments" ]; then
        options+="--segments ${from}/segments "
        keys=${from}/segments
    fi
    [ ! -f "${from}/utt2speed" ] || options+="--utt2speed ${from}/utt2speed "
    [ "${feats_type}" != raw_copy ] || options+="--keep "
    count=$(count_jobs "${nj}" "${keys}")
    log "${from} -> ${to}: $(count_lines "${keys}") utterances, log: '${to}/logs/format_wav_scp.*.log'"

    rm -rf "${to}/logs" "${to}/data" "${to}/wav.scp"
    mkdir -p "${to}/logs"
    split_file "${keys}" "${count}" "${to}/logs/keys." ""
    # shellcheck disable=SC2086
    run_jobs "${train_cmd}" "${count}" "${to}/logs/format_wav_scp.JOB.log" \
        python3 pyscripts/format_wav_scp.py --fs "${sample_rate}" --audio-format "${audio_format}" \
        ${options} --keys "${to}/logs/keys.JOB" "${from}/wav.scp" "${to}/data/format.JOB"

    local name
    python3 pyscripts/data_dir.py copy "${from}" "${to}"
    echo raw >"${to}/feats_type"
    echo "${audio_format}" >"${to}/audio_format"
    for name in utt2num_samples utt2md5 wav.scp; do
        merge "${to}/${name}" "${to}"/data/format.*/"${name}"
    done
}

stage_4() {
    log "Stage 4: Remove long/short data: ${data_feats}/org -> ${data_feats}"
    local set from to name inputs outputs
    # Test sets are left as they are.
    for set in "${train_set}" "${valid_set}"; do
        from=${data_feats}/org/${set}
        to=${data_feats}/${set}
        inputs=
        outputs=
        for name in wav.scp text utt2spk utt2num_samples utt2md5 feats_type audio_format; do
            inputs+="${from}/${name} "
            outputs+="${to}/${name} "
        done
        once "${to}/.filter" "${min_wav_duration} ${max_wav_duration} ${sample_rate}
            ${post_process_local_data_opts}" "${inputs}" "${outputs}" \
            filter_set "${from}" "${to}"
    done
    once "${data_feats}/.lm_train" "${lm_train_text}" "${lm_train_text}" \
        "${data_feats}/lm_train.txt" join_lm_texts
}
filter_set() {
    python3 pyscripts/filter_data_dir.py --fs "${sample_rate}" --min "${min_wav_duration}" \
        --max "${max_wav_duration}" "$1" "$2"
    if [ -n "${post_process_local_data_opts}" ] && [ "$2" = "${data_feats}/${train_set}" ]; then
        # shellcheck disable=SC2086
        "${TIED[@]}" local/data.sh ${post_process_local_data_opts} --asr_data_dir "$2"
    fi
}
join_lm_texts() {
    # shellcheck disable=SC2086
    python3 pyscripts/data_dir.py join ${lm_train_text} >"${data_feats}/lm_train.txt.part"
    [ -s "${data_feats}/lm_train.txt.part" ] || fail "no words in ${lm_train_text}"
    mv -f "${data_feats}/lm_train.txt.part" "${data_feats}/lm_train.txt"
}

stage_5() {
    local symbols="${blank} ${oov} ${sos_eos}"
    if [ "${token_type}" = bpe ]; then
        log "Stage 5: Generate token_list from ${bpe_train_text} using BPE"
        once "${bpedir}/.tokens" "${nbpe} ${bpemode} ${bpe_char_cover} ${bpe_input_sentence_size}
            ${bpe_nlsyms} ${symbols}" "${bpe_train_text} $(existing "${bpe_nlsyms}")" \
            "${bpedir}/train.txt ${bpedir}/bpe.vocab ${bpemodel} ${token_list}" train_bpe
    else
        log "Stage 5: Generate ${token_type} level token_list from ${lm_train_text}"
        once "${token_list%.txt}" "${token_type} ${cleaner} ${g2p} ${nlsyms_txt} ${symbols}" \
            "${data_feats}/lm_train.txt $(existing "${nlsyms_txt}")" "${token_list}" list_tokens
    fi
}
train_bpe() {
    # shellcheck disable=SC2086
    python3 pyscripts/data_dir.py values ${bpe_train_text} >"${bpedir}/train.txt"
    "${TIED[@]}" python3 pyscripts/train_bpe.py --vocab-size "${nbpe}" --mode "${bpemode}" \
        --character-coverage "${bpe_char_cover}" --sentences "${bpe_input_sentence_size}" \
        --keep "${bpe_nlsyms}" --blank "${blank}" --oov "${oov}" --sos-eos "${sos_eos}" "${bpedir}"
}
list_tokens() {
    # CTC's blank must be the first token, and the sentence end the last one.
    # shellcheck disable=SC2086
    run_jobs "${train_cmd}" 1 "$(dirname "${token_list}")/tokenize.log" \
        ${python} -m espnet2.bin.tokenize_text --token_type "${token_type}" \
        --input "${data_feats}/lm_train.txt" --output "${token_list}.part" --field 2- \
        --non_linguistic_symbols "${nlsyms_txt}" --cleaner "${cleaner}" --g2p "${g2p}" \
        --write_vocabulary true --add_symbol "${blank}:0" --add_symbol "${oov}:1" \
        --add_symbol "${sos_eos}:-1"
    mv -f "${token_list}.part" "${token_list}"
}
