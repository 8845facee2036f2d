# Stages 6-9: the language model.

# What every lm_train call needs.
lm_options() {
    echo --use_preprocessor true --bpemodel "${bpemodel}" --token_type "${token_type}" \
        --token_list "${token_list}" --non_linguistic_symbols "${nlsyms_txt}" \
        --cleaner "${cleaner}" --g2p "${g2p}" ${lm_config:+--config "${lm_config}"}
}
lm_shape=text_shape.${token_type}

stage_6() {
    log "Stage 6: LM collect stats: train_set=${data_feats}/lm_train.txt, dev_set=${lm_dev_text}"
    write_resume_script "${lm_stats_dir}" 6
    once "${lm_stats_dir}/.stats" "$(lm_options) ${lm_args}" \
        "${data_feats}/lm_train.txt ${lm_dev_text} ${token_list} $(existing "${lm_config}")" \
        "${lm_stats_dir}/train/${lm_shape} ${lm_stats_dir}/valid/${lm_shape}" collect_lm_stats
}
collect_lm_stats() {
    local logdir=${lm_stats_dir}/logdir count
    count=$(count_jobs "${nj}" "${data_feats}/lm_train.txt" "${lm_dev_text}")
    rm -rf "${logdir}"
    mkdir -p "${logdir}"
    split_file "${data_feats}/lm_train.txt" "${count}" "${logdir}/train." .scp
    split_file "${lm_dev_text}" "${count}" "${logdir}/dev." .scp
    log "LM collect-stats started... log: '${logdir}/stats.*.log'"
    # shellcheck disable=SC2046,SC2086
    run_jobs "${train_cmd}" "${count}" "${logdir}/stats.JOB.log" \
        ${python} -m espnet2.bin.lm_train --collect_stats true $(lm_options) \
        --train_data_path_and_name_and_type "${data_feats}/lm_train.txt,text,text" \
        --valid_data_path_and_name_and_type "${lm_dev_text},text,text" \
        --train_shape_file "${logdir}/train.JOB.scp" --valid_shape_file "${logdir}/dev.JOB.scp" \
        --output_dir "${logdir}/stats.JOB" ${lm_args}
    sum_stats "${lm_stats_dir}" "${count}"
}

stage_7() {
    log "Stage 7: LM Training: train_set=${data_feats}/lm_train.txt, dev_set=${lm_dev_text}"
    local inputs="${data_feats}/lm_train.txt ${lm_dev_text} ${token_list}
        ${lm_stats_dir}/train/${lm_shape} ${lm_stats_dir}/valid/${lm_shape}"
    local options
    options="$(lm_options) ${lm_args} ${lm_fold_length} ${num_splits_lm}"
    begin_training "${lm_exp}" "${lm_config}" "${options}" "${inputs}"
    write_resume_script "${lm_exp}" 7
    [ -e "${lm_exp}/${inference_lm}" ] || rm -f "${lm_exp}/.train.done"
    once "${lm_exp}/.train" "${options}" "${inputs} $(existing "${lm_config}")" \
        "${lm_exp}/config.yaml" train_lm
}
train_lm() {
    local text=${data_feats}/lm_train.txt shape=${lm_stats_dir}/train/${lm_shape} more=
    if [ "${num_splits_lm}" -gt 1 ]; then
        split_training "${lm_stats_dir}/splits${num_splits_lm}" "${num_splits_lm}" "${text}" "${shape}"
        text=${split_dir}/lm_train.txt
        shape=${split_dir}/${lm_shape}
        more="--multiple_iterator true"
    fi
    # shellcheck disable=SC2046,SC2086
    train_model "${lm_exp}" \
        ${python} -m espnet2.bin.lm_train --ngpu "${ngpu}" $(lm_options) \
        --train_data_path_and_name_and_type "${text},text,text" --train_shape_file "${shape}" \
        --valid_data_path_and_name_and_type "${lm_dev_text},text,text" \
        --valid_shape_file "${lm_stats_dir}/valid/${lm_shape}" \
        --fold_length "${lm_fold_length}" --resume true --output_dir "${lm_exp}" ${more} ${lm_args}
}

stage_8() {
    log "Stage 8: Calc perplexity: ${lm_test_text}"
    once "${lm_exp}/perplexity_test/.ppl" "" \
        "${lm_exp}/config.yaml ${lm_exp}/${inference_lm} ${lm_test_text}" \
        "${lm_exp}/perplexity_test/ppl" compute_perplexity
    log "PPL: ${lm_test_text}: $(cat "${lm_exp}/perplexity_test/ppl")"
}
compute_perplexity() {
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=${ALL_THREADS} "${TIED[@]}" ${cuda_cmd} --gpu "${ngpu}" \
        "${lm_exp}/perplexity_test/lm_calc_perplexity.log" \
        ${python} -m espnet2.bin.lm_calc_perplexity --ngpu "${ngpu}" \
        --data_path_and_name_and_type "${lm_test_text},text,text" \
        --train_config "${lm_exp}/config.yaml" --model_file "${lm_exp}/${inference_lm}" \
        --output_dir "${lm_exp}/perplexity_test"
}
# Stage 9, the n-gram model, is always left out: checks.sh refuses --use_ngram true.
