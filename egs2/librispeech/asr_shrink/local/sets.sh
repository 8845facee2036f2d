# Names of the sets of ${corpus}; sourced by run.sh and local/data.sh.
# Defines train_set, valid_set, test_sets, as far as they are empty.

case "${corpus}" in
    mini)
        train_set=${train_set:-train_mini}
        valid_set=${valid_set:-dev_mini}
        test_sets=${test_sets:-test_mini}
        ;;
    digits)
        train_set=${train_set:-train_digits}
        valid_set=${valid_set:-dev_digits}
        test_sets=${test_sets:-test_digits}
        ;;
    librispeech)
        train_set=${train_set:-train_clean_100}
        valid_set=${valid_set:-dev}  # dev_clean and dev_other together
        test_sets=${test_sets:-test_clean test_other dev_clean dev_other}
        ;;
    *)
        echo "unknown corpus '${corpus}': choose mini, librispeech or digits" >&2
        exit 2
        ;;
esac
