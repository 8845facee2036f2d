#!/usr/bin/env bash
# Train an ESPnet recogniser (stages 1-15, ESPnet's own) and make it small (stages 16-22).
# Called from another recipe's folder (cd egs2/CORPUS/asr1; ../../librispeech/asr_shrink/run.sh ...)
# it makes that recipe's model small, with that folder's asr.sh, cmd.sh, path.sh and dump.
set -e
set -u
set -o pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"; }
fail() { echo "run.sh: Error: $*" >&2; exit 2; }

recipe=$(dirname "$0")

# Options of this recipe. Every other option goes to asr.sh as it is (./asr.sh --help lists them).
corpus=            # librispeech, mini_librispeech (its 5 hours), mini (embedded) or digits; empty: librispeech if
                   #   db.sh names it, else mini
digits_dir=        # folder of {digit}_{speaker}_{index}.wav recordings, for --corpus digits
stage=1            # first stage: 1-15 are ESPnet's, 16 proxy set, 17 search space, 18 rank search,
                   #   19 rounds, 20 decode and score, 21 report, 22 pack
stop_stage=22      # last stage
ngpu=              # GPUs for training; empty: 1 if there is one, else 0
nj=$(nproc)        # parallel jobs
inference_nj=$(nproc)  # parallel decoding jobs
asr_config=        # training config; empty: conf/train_asr_rnn.yaml, for librispeech and mini_librispeech
                   #   conf/train_asr_rnn_CORPUS.yaml
inference_config=  # empty: conf/decode_asr.yaml; with --asr_task asr_transducer or --use_maskctc true, which do
                   #   not know its keys, ESPnet's defaults
inference_tag=     # folder of the hypotheses in an experiment; empty: the name of inference_config, or "inference"
inference_asr_model=  # model file in ASR_EXP, and in the folders of the rounds that have it; empty: what the
                   #   config of each of them chooses (best_model_criterion)
train_set=         # names of the sets; empty: those of the corpus. Of the two librispeech any parts:
                   #   train_clean_5 (of Mini LibriSpeech), or "train_clean_100 train_clean_360" for one set of both
valid_set=         #   dev data, on which everything is chosen
test_sets=         #   decoded for the report
local_data_opts=   # more options for local/data.sh, such as "--download true"
dumpdir=dump       # formatted data
expdir=exp         # models made here
asr_exp=           # experiment folder of the model; empty: EXPDIR/asr_CORPUS_CONFIG, trained in stage 11
download_model=    # compress this model instead of training one: a tag of Hugging Face or of ESPnet's model
                   #   zoo, or a model packed by ESPnet (.zip); it is unpacked to exp/TAG
shrink_exp=        # folder of stages 16-22; empty: ASR_EXP_shrink
target=            # compression to reach, such as 5x; several, 2x,3x,5x, give a model each and one table; empty: as
                   #   conf/rounds.yaml says
rounds_config=${recipe}/conf/rounds.yaml
search_config=${recipe}/conf/search.yaml
proxy_size=100     # utterances of the proxy set, chosen from dev
workers=           # processes that score plans, or the address of a Dask scheduler; empty: one process, on
                   #   all cores
seed=0             # of the proxy set and the searches
nbpe=              # BPE vocabulary; empty: 250 for mini, 100 for mini_librispeech, 1000 for librispeech, 30 for digits

own="corpus digits_dir stage stop_stage ngpu nj inference_nj asr_config inference_config inference_tag
     inference_asr_model train_set valid_set test_sets local_data_opts dumpdir expdir asr_exp download_model shrink_exp
     target rounds_config search_config proxy_size workers seed nbpe"
own=${own//$'\n'/ }
command="$0 $*"
others=()
while [ $# -gt 0 ]; do
    name=${1#--}; name=${name//-/_}
    if [ "${name}" = help ]; then
        sed -n '/^# Options of this recipe/,/^own=/p' "$0" | sed '$d'
        exit 0
    fi
    case "$1" in --*) ;; *) fail "unexpected argument $1: options start with --; see --help" ;; esac
    [ $# -ge 2 ] || fail "option $1 needs a value"
    if [[ " ${own} " == *" ${name} "* ]]; then printf -v "${name}" '%s' "$2"; else others+=("$1" "$2"); fi
    shift 2
done
for name in stage stop_stage; do
    [[ ${!name} =~ ^(0|[1-9][0-9]*)$ ]] || fail "--${name} takes a stage number, not '${!name}'"
done

for size in ${target//,/ }; do
    [[ ${size} =~ ^[0-9]+(\.[0-9]+)?[xX]?$ ]] || fail "--target takes a compression such as 5x, or 2x,3x,5x, not '${target}'"
done

# option NAME: the value that is given for an option of asr.sh.
option() {
    local i
    for ((i = ${#others[@]} - 2; i >= 0; i -= 2)); do
        if [ "${others[i]//-/_}" = "__$1" ]; then echo "${others[i + 1]}"; break; fi
    done
}

at_home() { [ "${recipe}" -ef . ]; }  # or in another recipe's folder
if at_home; then
    . ./db.sh
    if [ -z "${corpus}" ]; then
        if [ -n "${LIBRISPEECH}" ]; then
            corpus=librispeech
        else
            corpus=mini
            log "No LibriSpeech is configured (LIBRISPEECH= in db.sh is empty): using the embedded corpus."
        fi
    fi
    train_set=${train_set// /+} valid_set=${valid_set// /+}  # of several parts one set
    . local/sets.sh
    # What is made of another training set has folders of its own: tokens, statistics, the model.
    tag=${corpus} lang=en
    [ "${corpus}" != mini_librispeech ] || lang=en_${corpus}
    if [ "${train_set}" != "${default_train_set}" ]; then tag+=_${train_set} lang+=_${train_set}; fi
    default_config=conf/train_asr_rnn.yaml
    ! is_librispeech || default_config=conf/train_asr_rnn_${corpus}.yaml
    asr_config=${asr_config:-${default_config}}
    # A config of its own may have another frontend.
    stats=${expdir}/asr_stats_${tag}
    [ "${asr_config}" = "${default_config}" ] || stats+=_$(basename "${asr_config}" .yaml)
    [ -f "${asr_config}" ] || fail "no such file: ${asr_config} (--asr_config)"
    case "${corpus}" in
        mini) nbpe=${nbpe:-250} ;;
        digits) nbpe=${nbpe:-30} ;;
        mini_librispeech) nbpe=${nbpe:-100} ;;
        librispeech) nbpe=${nbpe:-1000} ;;
    esac
else
    [ -f asr.sh ] || fail "no asr.sh in ${PWD}: go to a recipe's folder first"
    [ "${stage}" -ge 16 ] || fail "stages 1 to 15 are for this folder's own run.sh: give --stage 16 or more"
    for name in asr_exp valid_set test_sets; do
        [ -n "${!name}" ] || fail "give --${name}: in another recipe's folder it has no default"
    done
    corpus=${corpus:-$(basename "$(dirname "${PWD}")")}
    tag=${corpus}
fi
if [ -z "${inference_config}" ] && [ "$(option asr_task)" != asr_transducer ] && [ "$(option use_maskctc)" != true ]; then
    inference_config=${recipe}/conf/decode_asr.yaml
fi
[ -z "${inference_config}" ] || [ -f "${inference_config}" ] \
    || fail "no such file: ${inference_config} (--inference_config)"
if [ -z "${ngpu}" ]; then
    ngpu=0
    if nvidia-smi -L > /dev/null 2>&1; then ngpu=1; fi
fi
[ -z "${asr_exp}" ] || [ -z "${download_model}" ] || fail "--asr_exp and --download_model name two models: give one"
if [ -n "${asr_exp}" ] && [ ! -f "${asr_exp}/config.yaml" ] && [ "${stage}" -gt 11 ]; then
    fail "no trained model in ${asr_exp}: it has no config.yaml (--asr_exp)"
fi
if [ -n "${download_model}" ]; then
    name=${download_model}
    if [ -f "${name}" ]; then name=$(basename "${name}" | sed -E 's/\.(zip|t[gbx]z2?|tar(\.[a-z0-9]+)?)$//'); fi
    asr_exp=${expdir}/${name//[^A-Za-z0-9._\/-]/_}  # scripts hand it on to shells
fi
asr_exp=${asr_exp:-${expdir}/asr_${tag}_$(basename "${asr_config}" .yaml)}
shrink_exp=${shrink_exp:-${asr_exp}_shrink}
inference_tag=${inference_tag:-$(basename "${inference_config:-inference}" .yaml)}
if [ -n "${inference_asr_model}" ] && [ "${stage}" -gt 11 ] && [ -z "${download_model}" ]; then
    [ -e "${asr_exp}/${inference_asr_model}" ] \
        || fail "no such file: ${asr_exp}/${inference_asr_model} (--inference_asr_model)"
fi

asr_opts=(
    --ngpu "${ngpu}" --nj "${nj}" --inference_nj "${inference_nj}" --use_lm false
    --python "python3 -m espnet_shrink.run --debug" --dumpdir "${dumpdir}" --expdir "${expdir}"
    --valid_set "${valid_set}" --test_sets "${test_sets}" --asr_exp "${asr_exp}"
    --inference_config "${inference_config}" --inference_tag "${inference_tag}"
)
if at_home; then
    data_opts="--corpus ${corpus}${digits_dir:+ --digits_dir ${digits_dir}} --seed ${seed} --train_set ${train_set}"
    data_opts+=" --valid_set ${valid_set} --test_sets ${test_sets//[[:space:]]/,} ${local_data_opts}"
    asr_opts+=(
        --lang "${lang}" --asr_config "${asr_config}" --nbpe "${nbpe}" --max_wav_duration 30 --audio_format flac
        --local_data_opts "${data_opts}"
        --train_set "${train_set}" --asr_stats_dir "${stats}"
    )
else
    asr_opts+=(--skip_train true)
fi
asr_opts+=(${others[@]+"${others[@]}"})

# The folder of the formatted data.
data_root=$(option feats_type)
data_root=${dumpdir}/${data_root:-raw}
formatted() { [ -s "${data_root}/$1/text" ] || [ -s "${data_root}/$1_sp/text" ]; } # _sp: with other speeds
if at_home; then
    for name in "${train_set}" "${valid_set}" ${test_sets}; do
        formatted "${name}" || check_sets "${name}"
    done
fi

# Data first: stages 6 and on need what stages 1-5 leave.
runs() { [ "${stage}" -le "$2" ] && [ "${stop_stage}" -ge "$1" ]; } # any of the stages $1 to $2
needed=("${valid_set}")
if { [ -z "${download_model}" ] && runs 6 11; } || { [ -n "${download_model}" ] && runs 19 19; }; then
    needed+=("${train_set}")
fi
# shellcheck disable=SC2206  # several names
if runs 12 13 || runs 20 21; then needed+=(${test_sets}); fi
missing=()
for name in "${needed[@]}"; do
    formatted "${name}" || missing+=("${name}")
done
if [ "${stage}" -gt 5 ] && [ "${#missing[@]}" -gt 0 ]; then
    if ! at_home; then
        fail "no ${data_root}/${missing[0]}/text: run this folder's own recipe first (--dumpdir, --valid_set, --test_sets)"
    fi
    [ "${corpus}" = mini ] || fail "corpus ${corpus} is not prepared (no ${data_root}/${missing[0]}):" \
        "run ./run.sh --corpus ${corpus}${digits_dir:+ --digits_dir ${digits_dir}} --stage 1 first, with the same sets"
fi

# Stages die with this script, even at kill -9, so that the next run finds nobody at work.
tied=()
if command -v setpriv > /dev/null; then tied=(setpriv --pdeathsig KILL --); fi

# The model first of all, once asr.sh has seen that it knows its options. It brings its own tokens and
# statistics, so that data is prepared (stages 1-4) and nothing is trained (5-11).
train_data=
if [ -n "${download_model}" ]; then
    asr_opts+=(--skip_stages "5 6 7 8 9 10 11")
    ./asr.sh "${asr_opts[@]}" --stage 16 --stop_stage 15
    (
        . ./path.sh
        python3 -W ignore -m espnet_shrink.cli unpack "${download_model}" --out "${asr_exp}"
    )
    [ ! -d "${asr_exp}/lm" ] || asr_opts+=(--lm_exp "${asr_exp}/lm")
    train_data=${data_root}/${train_set}  # its config names its authors' data
fi

if [ "${stage}" -gt 5 ] && [ "${#missing[@]}" -gt 0 ]; then
    log "Not prepared yet: ${missing[*]}. Running stages 1 to 5 first."
    ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" --stage 1 --stop_stage 5
fi

# choose_model: the checkpoint that stages 11 to 15 read, as given or as the config of a training says.
model=()
choose_model() {
    local name=${inference_asr_model}
    if [ -z "${name}" ] && [ -f "${asr_exp}/config.yaml" ]; then
        name=$(. ./path.sh > /dev/null && python3 -W ignore "${recipe}/local/checkpoints.py" "${asr_exp}") || return
    fi
    [ -z "${name}" ] || model=(--inference_asr_model "${name}")
}
if [ "${stage}" -le 11 ]; then
    choose_model 2> /dev/null || true # a training that was cut off may have none yet
    ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" ${model[@]+"${model[@]}"} \
        --stage "${stage}" --stop_stage "$((stop_stage < 11 ? stop_stage : 11))"
fi
# Also with --stage 16 and on, where it runs nothing: it refuses options that it does not know.
if [ "${stage}" -gt 11 ] || [ "${stop_stage}" -gt 11 ]; then
    [ "${stage}" -gt 15 ] || choose_model
    ${tied[@]+"${tied[@]}"} ./asr.sh "${asr_opts[@]}" ${model[@]+"${model[@]}"} \
        --stage "$((stage > 12 ? stage : 12))" --stop_stage "$((stop_stage < 15 ? stop_stage : 15))"
fi

if [ "${stop_stage}" -ge 16 ]; then
    ${tied[@]+"${tied[@]}"} "${recipe}/local/shrink.sh" --stage "${stage}" --stop_stage "${stop_stage}" --ngpu "${ngpu}" \
        --corpus "${corpus}" --asr_exp "${asr_exp}" --shrink_exp "${shrink_exp}" \
        --data_root "${data_root}" --valid_set "${valid_set}" --test_sets "${test_sets}" \
        --inference_tag "${inference_tag}" --inference_asr_model "${inference_asr_model}" \
        --train_data "${train_data}" --target "${target}" --rounds_config "${rounds_config}" --search_config "${search_config}" \
        --proxy_size "${proxy_size}" --workers "${workers}" --seed "${seed}" --run_command "${command}" \
        -- "${asr_opts[@]}"
fi
