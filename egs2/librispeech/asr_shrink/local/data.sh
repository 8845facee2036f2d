#!/usr/bin/env bash
# Make data/SET/{wav.scp,text,utt2spk,spk2utt} for every set of a corpus.

set -e
set -u
set -o pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

corpus=mini      # mini, mini_librispeech, librispeech or digits.
digits_dir=      # The folder of {digit}_{speaker}_{index}.wav recordings (digits).
download=false   # Fetch what is missing from OpenSLR (of LibriSpeech).
train_set=       # The sets; local/sets.sh has the default names.
valid_set=
test_sets=       # Separated by commas or spaces.
seed=0           # Of the texts, voices and noises (mini) and of the strings (digits).

# shellcheck disable=SC2034  # parse_options.sh prints it
help_message="local/data.sh [--corpus mini|mini_librispeech|librispeech|digits] [--digits_dir DIR] [--download true]
    [--train_set NAME] [--valid_set NAME] [--test_sets NAME,NAME] [--seed N]"

fail() { echo "$*" >&2; exit 2; }

. ./path.sh
. ./cmd.sh
. ./db.sh
. utils/parse_options.sh
[ $# -eq 0 ] || fail "local/data.sh: '$1' is no option (options of local/data.sh cannot hold spaces)"

. local/sets.sh
# shellcheck disable=SC2086  # names of sets
sets=$(printf '%s\n' ${train_set} ${valid_set} ${test_sets//,/ } | awk '!seen[$0]++')
# shellcheck disable=SC2086  # names of sets
check_sets ${sets}

# The rest was made by hand, and is left alone.
sets=$(for set in ${sets}; do ! has_set "${set}" || echo "${set}"; done)

# prepare_sets DIR: make the sets from the parts of LibriSpeech in DIR.
prepare_sets() {
    local set part
    for set in ${sets}; do
        for part in $(parts_of "${set}"); do # all are looked for before the first is read
            has_part "$1" "${part}" || fail "$1: no folder ${part} there: set LIBRISPEECH= in db.sh" \
                "to the folder that holds it, or give --download true"
        done
    done
    for set in ${sets}; do
        # shellcheck disable=SC2046  # several parts
        python3 local/prepare_librispeech.py --corpus_dir "$1" --subset $(parts_of "${set}") --out "data/${set}"
    done
}

log "Corpus ${corpus}: ${train_set}, ${valid_set}, ${test_sets}"
case "${corpus}" in
    mini)
        python3 local/make_mini_corpus.py --out downloads/mini --seed "${seed}"
        prepare_sets downloads/mini
        ;;
    digits)
        [ -n "${digits_dir}" ] || fail "corpus digits: name the folder of" \
            "{digit}_{speaker}_{index}.wav recordings with --digits_dir DIR"
        python3 local/prepare_digits.py --recordings "${digits_dir}" --audio downloads/digits \
            --out data --seed "${seed}"
        ;;
    librispeech | mini_librispeech)
        if "${download}"; then
            LIBRISPEECH=${LIBRISPEECH:-downloads}
            for set in ${sets}; do
                # shellcheck disable=SC2046  # several parts
                python3 local/download_librispeech.py --out "${LIBRISPEECH}" --subset $(parts_of "${set}")
            done
        fi
        [ -n "${LIBRISPEECH}" ] || fail "corpus ${corpus}: set LIBRISPEECH= in db.sh to the folder" \
            "that holds ${train_set//_/-}, or give --download true"
        prepare_sets "${LIBRISPEECH}"
        ;;
esac
log "Successfully finished. [elapsed=${SECONDS}s]"
