# Stages 12-13: decoding and scoring.

stage_12() {
    log "Stage 12: Decoding: training_dir=${asr_exp}"
    write_resume_script "${asr_exp}/${inference_tag}" 12
    local options="" variant="" models="${asr_exp}/config.yaml ${asr_exp}/${inference_asr_model}"
    local set data dir
    [ -z "${inference_config}" ] || options+="--config ${inference_config} "
    if "${use_lm}"; then
        options+="--lm_train_config ${lm_exp}/config.yaml --lm_file ${lm_exp}/${inference_lm} "
        models+=" ${lm_exp}/config.yaml ${lm_exp}/${inference_lm}"
    fi
    if [ "${asr_task}" = asr ]; then
        ! "${use_maskctc}" || variant=_maskctc
        ! "${use_streaming}" || variant=_streaming
    fi
    options+="--batch_size ${batch_size} ${inference_args}"
    for set in ${decode_sets}; do
        data=${data_feats}/${set}
        dir=${asr_exp}/${inference_tag}/${set}
        once "${dir}/.decode" "${asr_task} ${variant} ${options} ${gpu_inference}" \
            "${models} $(existing "${inference_config}") ${data}/wav.scp ${data}/utt2md5" \
            "${dir}/text ${dir}/token ${dir}/token_int ${dir}/score" \
            decode_set "${data}" "${dir}" "${asr_task}_inference${variant}" "${options}"
    done
}
decode_set() {
    local data=$1 dir=$2 module=$3 options=$4 logdir=$2/logdir count command=${decode_cmd} gpus=0
    if "${gpu_inference}"; then
        command=${cuda_cmd}
        gpus=1
    fi
    # As many as asked for, even on fewer processors: what an interrupted run has done is kept by job.
    count=$(count_lines "${data}/wav.scp")
    [ "${count}" -le "${inference_nj}" ] || count=${inference_nj}
    # Jobs that an interrupted run of the very same decoding has finished are kept.
    { cat "${dir}/.decode.done.pending" && echo "${count} jobs"; } >"${dir}/.fingerprint"
    if ! cmp -s "${dir}/.fingerprint" "${logdir}/fingerprint"; then
        rm -rf "${logdir}"
        mkdir -p "${logdir}"
        split_file "${data}/wav.scp" "${count}" "${logdir}/keys." .scp
        mv -f "${dir}/.fingerprint" "${logdir}/fingerprint"
    fi
    rm -f "${dir}/.fingerprint"

    log "Decoding started... log: '${logdir}/asr_inference.*.log'"
    "${TIED[@]}" python3 pyscripts/progress.py decode "${logdir}" "$(count_lines "${data}/wav.scp")" &
    local follower=$! status=0
    # shellcheck disable=SC2086
    run_jobs "${command} --gpu ${gpus}" "${count}" "${logdir}/job.JOB.log" \
        utils/once.sh "${logdir}/output.JOB" "${logdir}/asr_inference.JOB.log" \
        ${python} -m espnet2.bin.${module} --ngpu "${gpus}" \
        --data_path_and_name_and_type "${data}/wav.scp,speech,sound" \
        --key_file "${logdir}/keys.JOB.scp" \
        --asr_train_config "${asr_exp}/config.yaml" \
        --asr_model_file "${asr_exp}/${inference_asr_model}" \
        --output_dir "${logdir}/output.JOB" ${options} || status=$?
    stop_follower "${follower}"
    [ "${status}" -eq 0 ] || exit "${status}"

    if [ "${module}" = asr_inference ]; then
        if python3 pyscripts/calculate_rtf.py --fs "${sample_rate}" "${logdir}" >"${logdir}/rtf.part"; then
            mv -f "${logdir}/rtf.part" "${logdir}/calculate_rtf.log"
            log "$(grep RTF "${logdir}/calculate_rtf.log"), log: '${logdir}/calculate_rtf.log'"
        else
            rm -f "${logdir}/rtf.part" "${logdir}/calculate_rtf.log"
            log "No real-time factor of ${dir}, for the reason above: the hypotheses are complete"
        fi
    fi
    local name
    for name in token token_int score text; do
        merge "${dir}/${name}" "${logdir}"/output.*/1best_recog/"${name}"
    done
}

stage_13() {
    log "Stage 13: Scoring"
    local set data dir kind outputs results="" kinds="wer cer"
    [ ! -f "${bpemodel}" ] || kinds+=" ter"
    for set in ${decode_sets}; do
        data=${data_feats}/${set}
        dir=${asr_exp}/${inference_tag}/${set}
        outputs=
        for kind in ${kinds}; do
            outputs+="${dir}/score_${kind}/result.txt "
        done
        once "${dir}/.score" "${cleaner} ${hyp_cleaner}" \
            "${data}/text ${data}/utt2spk ${dir}/text $(existing "${bpemodel}" "${nlsyms_txt}")" \
            "${outputs}" score_set "${data}" "${dir}"
        results+=${outputs}
    done
    once "${asr_exp}/.results_${inference_tag}" "${local_score_opts}" \
        "${results} $(existing local/score.sh)" "${asr_exp}/RESULTS.md" write_results
    cat "${asr_exp}/RESULTS.md"
}
score_set() {
    python3 pyscripts/score.py --ref "$1/text" --hyp "$2/text" --utt2spk "$1/utt2spk" \
        --bpemodel "${bpemodel}" --non-linguistic-symbols "${nlsyms_txt}" \
        --cleaner "${cleaner}" --hyp-cleaner "${hyp_cleaner}" "$2"
}
write_results() {
    if [ -x local/score.sh ]; then
        # shellcheck disable=SC2086
        local/score.sh ${local_score_opts} "${asr_exp}"
    fi
    python3 pyscripts/results.py "${asr_exp}" >"${asr_exp}/RESULTS.md.part"
    mv -f "${asr_exp}/RESULTS.md.part" "${asr_exp}/RESULTS.md"
}
