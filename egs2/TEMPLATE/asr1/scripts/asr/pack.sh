# Stages 14-15: packing and upload, and the opposite, a model from ESPnet's model zoo.

stage_14() {
    log "Stage 14: Pack model: ${packed_model}"
    local models="--asr_train_config ${asr_exp}/config.yaml
        --asr_model_file ${asr_exp}/${inference_asr_model}" extras file options=
    extras="${asr_exp}/RESULTS.md ${asr_exp}/images"
    if "${use_lm}"; then
        models+=" --lm_train_config ${lm_exp}/config.yaml --lm_file ${lm_exp}/${inference_lm}"
        extras+=" ${lm_exp}/perplexity_test/ppl ${lm_exp}/images"
    fi
    [ "${feats_normalize}" != global_mvn ] || extras+=" ${asr_stats_dir}/train/feats_stats.npz"
    [ "${token_type}" != bpe ] || extras+=" ${bpemodel}"
    [ "${nlsyms_txt}" = none ] || extras+=" ${nlsyms_txt}"
    # shellcheck disable=SC2086
    extras=$(existing ${extras})
    for file in ${extras}; do
        options+="--option ${file} "
    done
    # shellcheck disable=SC2001
    once "${asr_exp}/.pack_${inference_asr_model}" "${models} ${options}" \
        "$(echo "${models}" | sed 's/--[a-z_]*//g') ${extras}" "${packed_model}" \
        pack "${models} ${options}"
}
pack() {
    local part=${packed_model%.zip}.part.zip
    # shellcheck disable=SC2086
    run_jobs "${train_cmd}" 1 "${asr_exp}/pack.log" \
        ${python} -m espnet2.bin.pack asr $1 --outpath "${part}"
    mv -f "${part}" "${packed_model}"
}

stage_15() {
    [ -n "${hf_repo}" ] || fail "--hf_repo is required to upload, e.g. --hf_repo me/my_model"
    log "Stage 15: Upload model to HuggingFace: ${hf_repo}"
    [ -f "${packed_model}" ] || fail "${packed_model} is missing: run stage 14 (--skip_packing false)"
    once "${asr_exp}/.upload_${hf_repo//\//_}" "${hf_repo}" "${packed_model}" "" \
        python3 pyscripts/upload.py "${packed_model}" "${hf_repo}"
}

use_downloaded_model() {
    log "Use ${download_model} for decoding and evaluation"
    asr_exp=${expdir}/${download_model}
    python3 pyscripts/download.py "${download_model}" "${asr_exp}"
    inference_asr_model=$(basename "$(readlink "${asr_exp}/model.pth")")
    if [ -d "${asr_exp}/lm" ]; then
        lm_exp=${asr_exp}/lm
        inference_lm=$(basename "$(readlink "${lm_exp}/model.pth")")
    fi
}
