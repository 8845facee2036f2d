# Options that cannot be met are refused before anything runs.

# only OPTION VALUE REASON: refuse any other value of the option.
only() {
    [ "${!1}" = "$2" ] || fail "--$1 ${!1} is not supported here: $3"
}

for _option in num_nodes num_ref; do
    only "${_option}" 1 "only 1"
done
num_inf=${num_inf:-${num_ref}}
only num_inf 1 "only one speaker"
only sot_asr false "only one speaker"
only use_k2 false "k2 does not come from pip alone; use ESPnet's own asr.sh"
only use_ngram false "n-gram models need kenlm; use ESPnet's own asr.sh, or --use_lm true"
only use_word_lm false "use --token_type word"
only use_prompt false "only Whisper models take prompts"
only use_lang_prompt false "only Whisper models take prompts"
only use_nlp_prompt false "only Whisper models take prompts"
only multi_columns_input_wav_scp false "write one file for each utterance"
only multi_columns_output_wav_scp false "write one file for each utterance"
only hugging_face_model_name_or_path "" "use --token_type bpe, char or word"
only score_opts "" "scoring uses jiwer, not sclite"

# one_of OPTION VALUE...: refuse all but these values.
one_of() {
    local option=$1 value
    shift
    for value in "$@"; do
        [ "${!option}" != "${value}" ] || return 0
    done
    fail "--${option} ${!option} is not supported here: choose one of $*"
}
one_of feats_type raw raw_copy
one_of audio_format flac wav
one_of token_type bpe char word
one_of bpemode unigram bpe
one_of asr_task asr asr_transducer

for _option in stage stop_stage nj inference_nj ngpu nbpe batch_size num_splits_lm num_splits_asr; do
    [[ ${!_option} =~ ^[0-9]+$ ]] || fail "--${_option} takes a whole number, not '${!_option}'"
done
for _option in nj inference_nj; do
    [ "${!_option}" -ge 1 ] || fail "--${_option} must be 1 or more"
done
for _option in asr_config lm_config inference_config; do
    [ -z "${!_option}" ] || [ -f "${!_option}" ] || fail "--${_option}: no such file: ${!_option}"
done
[ "${nlsyms_txt}" = none ] || [ -f "${nlsyms_txt}" ] || fail "--nlsyms_txt: no such file: ${nlsyms_txt}"

if ! "${skip_train}"; then
    [ -n "${train_set}" ] || fail "--train_set is required (or --skip_train true)"
    [ -n "${valid_set}" ] || fail "--valid_set is required (or --skip_train true)"
fi
if "${eval_valid_set}"; then
    [ -n "${valid_set}" ] || fail "--valid_set is required with --eval_valid_set true"
else
    [ -n "${test_sets// /}" ] || fail "--test_sets is required (or --eval_valid_set true)"
fi
[ -z "${train_set}" ] || [ "${train_set}" != "${valid_set}" ] \
    || fail "--train_set and --valid_set are both ${train_set}: choose two different sets"

_kept=
for _set in ${test_sets}; do
    if [ "${_set}" = "${train_set}" ]; then
        fail "--test_sets contains the training set ${train_set}"
    elif [ "${_set}" = "${valid_set}" ]; then
        log "Info: ${valid_set} is the validation set: it is decoded as --eval_valid_set true does"
        eval_valid_set=true
    elif [[ " ${_kept}" == *" ${_set} "* ]]; then
        log "Info: ${_set} is twice in --test_sets: once is enough"
    else
        _kept+="${_set} "
    fi
done
test_sets=${_kept}

sample_rate=$(python3 pyscripts/data_dir.py rate "${fs}")
