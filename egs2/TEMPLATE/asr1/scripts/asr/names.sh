# Folder and file names, the same as ESPnet makes from the same options.

data_feats=${dumpdir}/${feats_type}

# The suffix that arguments leave in a name: "--max_epoch 10" -> "_max_epoch10".
# The second argument lists the characters that are dropped.
args_suffix() {
    echo "$1" | sed -e 's/--/_/g' -e "s/[$2]//g"
}

_sp=${speed_perturb_factors:+_sp}
_lang=
[ "${lang}" = noinfo ] || _lang=_${lang}
_tokens=${_lang}_${token_type}
[ "${token_type}" != bpe ] || _tokens+="${nbpe}"

token_listdir=data/${_lang:+${lang}_}token_list
bpedir=${token_listdir}/bpe_${bpemode}${nbpe}
if [ "${token_type}" = bpe ]; then
    token_list=${bpedir}/tokens.txt
    bpemodel=${bpedir}/bpe.model
else
    token_list=${token_listdir}/${token_type}/tokens.txt
    bpemodel=none
fi

if [ -z "${asr_tag}" ]; then
    asr_tag=train
    [ -z "${asr_config}" ] || asr_tag=$(basename "${asr_config}" .yaml)
    asr_tag+=_${feats_type}${_tokens}
    [ -z "${asr_args}" ] || asr_tag+=$(args_suffix "${asr_args}" ' |=/')
    asr_tag+=${_sp}
fi
if [ -z "${lm_tag}" ]; then
    lm_tag=train
    [ -z "${lm_config}" ] || lm_tag=$(basename "${lm_config}" .yaml)
    lm_tag+=${_tokens}
    [ -z "${lm_args}" ] || lm_tag+=$(args_suffix "${lm_args}" ' |=/')
fi
asr_stats_dir=${asr_stats_dir:-${expdir}/asr_stats_${feats_type}${_tokens}${_sp}}
lm_stats_dir=${lm_stats_dir:-${expdir}/lm_stats${_tokens}}
asr_exp=${asr_exp:-${expdir}/asr_${asr_tag}}
asr_exp=${asr_exp%/}
lm_exp=${lm_exp:-${expdir}/lm_${lm_tag}}
lm_exp=${lm_exp%/}

# model_suffix FILE: "valid.acc.ave.pth" -> "valid.acc.ave", with "_" for "/".
model_suffix() {
    echo "$1" | sed -e 's/\//_/g' -e 's/\.[^.]*$//'
}
if [ -z "${inference_tag}" ]; then
    inference_tag=inference
    [ -z "${inference_config}" ] || inference_tag=$(basename "${inference_config}" .yaml)
    [ -z "${inference_args}" ] || inference_tag+=$(args_suffix "${inference_args}" ' |=')
    ! "${use_lm}" || inference_tag+=_lm_$(basename "${lm_exp}")_$(model_suffix "${inference_lm}")
    inference_tag+=_asr_model_$(model_suffix "${inference_asr_model}")
fi

# Left out stages, sorted, each once.
! "${skip_data_prep}" || skip_stages+=" 1 2 3 4 5"
if "${skip_train}"; then
    skip_stages+=" 2 4 5 6 7 8 9 10 11"
elif ! "${use_lm}"; then
    skip_stages+=" 6 7 8"
fi
skip_stages+=" 9"
! "${skip_eval}" || skip_stages+=" 12 13"
! "${skip_packing}" || skip_stages+=" 14"
! "${skip_upload_hf}" || skip_stages+=" 15"
skip_stages=$(echo "${skip_stages}" | tr ' ' '\n' | sort -nu | sed '/^$/d' | paste -s -d ' ')

# From here on the training set is the speed-perturbed one, if there is one.
source_train_set=${train_set}
train_set+=${_sp}

# org_dir SET: the formatted set before stage 4. Test sets have no stage 4.
org_dir() {
    if [ "$1" = "${train_set}" ] || [ "$1" = "${valid_set}" ]; then
        echo "${data_feats}/org/$1"
    else
        echo "${data_feats}/$1"
    fi
}
bpe_train_text=${bpe_train_text:-${data_feats}/org/${train_set}/text}
lm_train_text=${lm_train_text:-${data_feats}/org/${train_set}/text}
lm_dev_text=${lm_dev_text:-${data_feats}/org/${valid_set}/text}
if [ -z "${lm_test_text}" ]; then
    if [ -n "${test_sets}" ]; then
        lm_test_text=${data_feats}/${test_sets%% *}/text
    else
        lm_test_text=${lm_dev_text}
    fi
fi
decode_sets=${test_sets}
! "${eval_valid_set}" || decode_sets="org/${valid_set} ${test_sets}"
packed_model=${asr_exp}/${asr_exp##*/}_${inference_asr_model%.*}.zip
