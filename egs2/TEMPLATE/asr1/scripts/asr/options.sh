# The options of asr.sh with their defaults: ESPnet's names, ESPnet's values.
# shellcheck disable=SC2034  # checks.sh reads by its name what only ESPnet's asr.sh supports
# `asr.sh --help` prints this file, so every line is also its documentation.

## General
stage=1                # first stage to run
stop_stage=10000       # last stage to run
skip_stages=           # stages to leave out, e.g. "5 9"
skip_data_prep=false   # leave out stages 1-5
skip_train=false       # leave out stages 2 and 4-11
skip_eval=false        # leave out stages 12 and 13
skip_packing=true      # leave out stage 14
skip_upload_hf=true    # leave out stage 15
eval_valid_set=false   # decode the validation set as well
ngpu=1                 # GPUs for training; 0 trains on the CPU
num_nodes=1            # only 1 is supported
nj=32                  # parallel jobs for data and statistics
inference_nj=32        # parallel jobs for decoding
gpu_inference=false    # decode on a GPU
dumpdir=dump           # folder for formatted data
expdir=exp             # folder for statistics, models and results
python=python3         # runs the ESPnet modules, e.g. "python3 -m espnet_shrink.run"

## Data
local_data_opts=               # options for local/data.sh (stage 1)
post_process_local_data_opts=  # options for a second call of local/data.sh, at the end of stage 4
auxiliary_data_tags=           # files beside the training text for auxiliary tasks
speed_perturb_factors=         # copies of the training set at other speeds, e.g. "0.9 1.0 1.1"
feats_type=raw                 # raw (format the audio) or raw_copy (take it as it is)
audio_format=flac              # flac or wav
multi_columns_input_wav_scp=false   # only false is supported
multi_columns_output_wav_scp=false  # only false is supported
fs=16k                         # sampling rate in Hz; audio at another rate is resampled
min_wav_duration=0.1           # shorter training utterances are left out (seconds)
max_wav_duration=20            # longer training utterances are left out (seconds)

## Tokens
token_type=bpe         # bpe, char or word
nbpe=30                # number of BPE pieces
bpemode=unigram        # unigram or bpe
oov="<unk>"            # symbol for unknown tokens
blank="<blank>"        # CTC's blank
sos_eos="<sos/eos>"    # start and end of a sentence
bpe_input_sentence_size=100000000  # sentences the BPE model is trained on
bpe_nlsyms=            # symbols BPE keeps whole: separated by commas, or a file with one on each line
bpe_char_cover=1.0     # share of the characters BPE must cover
hugging_face_model_name_or_path=  # not supported
use_ngram=false        # only false is supported
ngram_exp=             # folder of an n-gram model
ngram_num=3            # order of an n-gram model

## Language model
use_lm=true            # train a language model and decode with it
lm_tag=                # names the folder of the language model
lm_exp=                # the folder itself; lm_tag is then ignored
lm_stats_dir=          # folder of its statistics
lm_config=             # its training configuration (YAML)
lm_args=               # arguments over the configuration, e.g. "--max_epoch 10"
use_word_lm=false      # only false is supported
num_splits_lm=1        # parts in which the text is read, for huge texts
word_vocab_size=10000  # vocabulary of a word language model
use_prompt=false       # only false is supported
use_lang_prompt=false  # only false is supported
use_nlp_prompt=false   # only false is supported

## Recogniser
asr_task=asr           # asr or asr_transducer
asr_tag=               # names the folder of the model
asr_exp=               # the folder itself; asr_tag is then ignored
asr_stats_dir=         # folder of the statistics
asr_config=            # training configuration (YAML)
asr_args=              # arguments over the configuration, e.g. "--max_epoch 10"
pretrained_model=      # start from these weights
ignore_init_mismatch=false  # accept that some of them do not fit
feats_normalize=global_mvn  # global_mvn, or anything else for ESPnet's default
num_splits_asr=1       # parts in which the training set is read, for huge sets
num_ref=1              # only 1 is supported
num_inf=               # only 1 is supported
sot_asr=false          # only false is supported

## Decoding
use_k2=false           # only false is supported
k2_ctc_decoding=true
use_nbest_rescoring=true
num_paths=1000
nll_batch_size=100
k2_config=./conf/decode_asr_transformer_with_k2.yaml
use_streaming=false    # streaming decoding
use_maskctc=false      # mask-CTC decoding
batch_size=1           # utterances decoded at a time
inference_tag=         # names the folder of the results
inference_config=      # decoding configuration (YAML)
inference_args=        # arguments over the configuration, e.g. "--beam_size 10"
inference_lm=valid.loss.ave.pth        # checkpoint of the language model
inference_ngram=3gram.bin
inference_asr_model=valid.acc.ave.pth  # checkpoint of the recogniser
download_model=        # decode with a model of ESPnet's model zoo (needs espnet_model_zoo)
hf_repo=               # Hugging Face repository for stage 15, e.g. "me/my_model"

## Data sets
train_set=             # training set made by local/data.sh
valid_set=             # validation set
test_sets=             # test sets, e.g. "test_clean test_other"
bpe_train_text=        # text for the BPE model (default: the training set's)
lm_train_text=         # texts for the language model (default: the training set's)
lm_dev_text=           # its validation text (default: the validation set's)
lm_test_text=          # its test text (default: the first test set's)
nlsyms_txt=none        # file of non-linguistic symbols
cleaner=none           # text cleaner for references and training
hyp_cleaner=none       # text cleaner for hypotheses
g2p=none               # grapheme-to-phoneme converter
lang=noinfo            # language, part of folder names
score_opts=            # options of sclite: not supported
local_score_opts=      # options for local/score.sh
asr_speech_fold_length=800  # fold lengths, only for batch_type folded
asr_text_fold_length=150
lm_fold_length=150
