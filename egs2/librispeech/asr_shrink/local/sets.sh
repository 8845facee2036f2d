# shellcheck shell=bash
# The sets of ${corpus}; sourced by run.sh and local/data.sh.
# Defines train_set, valid_set and test_sets as far as they are empty, and the functions below.

case "${corpus}" in
    mini)
        default_train_set=train_mini
        valid_set=${valid_set:-dev_mini}
        test_sets=${test_sets:-test_mini}
        known_sets="train_mini dev_mini test_mini"
        ;;
    digits)
        default_train_set=train_digits
        valid_set=${valid_set:-dev_digits}
        test_sets=${test_sets:-test_digits}
        known_sets="train_digits dev_digits test_digits"
        ;;
    librispeech)
        default_train_set=train_clean_100
        valid_set=${valid_set:-dev}
        test_sets=${test_sets:-test_clean test_other dev_clean dev_other}
        ;;
    mini_librispeech)
        default_train_set=train_clean_5
        valid_set=${valid_set:-dev_clean_2}
        test_sets=${test_sets:-test_clean} # of LibriSpeech: the mini one has no test data
        ;;
    *)
        echo "unknown corpus '${corpus}': choose mini, mini_librispeech, librispeech or digits" >&2
        exit 2
        ;;
esac
is_librispeech() { [[ "${corpus}" = *librispeech ]]; } # or its mini one: any of the parts of both
if is_librispeech; then
    # The first two are Mini LibriSpeech's.
    known_sets="train_clean_5 dev_clean_2 train_clean_100 train_clean_360 train_other_500 dev_clean"
    known_sets+=" dev_other test_clean test_other dev train_clean_460 train_960"
fi
train_set=${train_set:-${default_train_set}}

# parts_of SET: LibriSpeech's own names of the parts that make up a set; "+" joins parts.
parts_of() {
    case "${corpus}:$1" in
        mini:train_mini) echo train-clean-100 ;;
        mini:dev_mini) echo dev-clean ;;
        mini:test_mini) echo test-clean ;;
        *librispeech:dev) echo dev-clean dev-other ;;
        *librispeech:train_clean_460) echo train-clean-100 train-clean-360 ;;
        *librispeech:train_960) echo train-clean-100 train-clean-360 train-other-500 ;;
        *) echo "$1" | tr '_+' '- ' ;;
    esac
}

# has_part DIR PART: is the part of LibriSpeech in the folder?
has_part() {
    [ -n "$1" ] && { [ -d "$1/$2" ] || [ -d "$1/LibriSpeech/$2" ]; }
}

# has_set SET: does the corpus have it? Of LibriSpeech a part that only this copy has will do as well.
has_set() {
    local part
    [[ " ${known_sets} " != *" ${1//-/_} "* ]] || return 0
    is_librispeech || return 1
    for part in $(parts_of "$1"); do
        [[ " ${known_sets} " == *" ${part//-/_} "* ]] || has_part "${LIBRISPEECH}" "${part}" || return 1
    done
}

# check_sets SET...: refuse what the corpus does not have, unless data/SET was made by hand.
check_sets() {
    local set more=""
    ! is_librispeech || more=", or several joined by +"
    for set in "$@"; do
        if ! has_set "${set}" && [ ! -s "data/${set}/wav.scp" ]; then
            echo "the ${corpus} corpus has no set '${set}': choose of ${known_sets// /, }${more}" >&2
            exit 2
        fi
    done
}
