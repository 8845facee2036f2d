#!/usr/bin/env bash
# Make data/SET/{wav.scp,text,utt2spk,spk2utt} for every set of a corpus.

set -e
set -u
set -o pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

corpus=mini      # mini, librispeech or digits.
digits_dir=      # The folder of {digit}_{speaker}_{index}.wav recordings (digits).
download=false   # Fetch what is missing from OpenSLR (librispeech).
train_set=       # The sets; local/sets.sh has the default names.
dev_set=
test_sets=
seed=0           # Of the texts, voices and noises (mini) and of the strings (digits).

help_message="local/data.sh [--corpus mini|librispeech|digits] [--digits_dir DIR] [--download true]
    [--train_set NAME] [--dev_set NAME] [--test_sets 'NAME NAME'] [--seed N]"

. ./path.sh
. ./cmd.sh
. ./db.sh
. utils/parse_options.sh

valid_set=${dev_set}
. local/sets.sh
dev_set=${valid_set}

fail() { echo "$*" >&2; exit 2; }

# LibriSpeech's own names of the parts that make up a set.
subsets_of() {
    case "${corpus}:$1" in
        mini:train_mini) echo train-clean-100 ;;
        mini:dev_mini) echo dev-clean ;;
        mini:test_mini) echo test-clean ;;
        mini:*) fail "the mini corpus has no set '$1': choose train_mini, dev_mini or test_mini" ;;
        librispeech:dev) echo dev-clean dev-other ;;
        *) echo "${1//_/-}" ;;
    esac
}

prepare_sets() {
    local set subsets
    for set in $(printf '%s\n' ${train_set} ${dev_set} ${test_sets} | awk '!seen[$0]++'); do
        subsets=$(subsets_of "${set}")
        # shellcheck disable=SC2086
        python3 local/prepare_librispeech.py --corpus_dir "$1" --subset ${subsets} --out "data/${set}"
    done
}

log "Corpus ${corpus}: ${train_set}, ${dev_set}, ${test_sets}"
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
        for set in ${train_set} ${dev_set} ${test_sets}; do
            [ -e "data/${set}" ] || fail "the digits corpus has no set '${set}':" \
                "choose train_digits, dev_digits or test_digits"
        done
        ;;
    librispeech)
        if "${download}"; then
            LIBRISPEECH=${LIBRISPEECH:-downloads}
            for set in ${train_set} ${dev_set} ${test_sets}; do
                subsets=$(subsets_of "${set}")
                # shellcheck disable=SC2086
                python3 local/download_librispeech.py --out "${LIBRISPEECH}" --subset ${subsets}
            done
        fi
        [ -n "${LIBRISPEECH}" ] || fail "corpus librispeech: set LIBRISPEECH= in db.sh to the folder" \
            "that holds ${train_set//_/-}, or give --download true"
        prepare_sets "${LIBRISPEECH}"
        ;;
esac
log "Successfully finished. [elapsed=${SECONDS}s]"
