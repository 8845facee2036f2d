# shellcheck shell=bash
# Command-line options for a bash script that sources this file.
#
# The script first gives every option a default (`nj=4`) and sets ${help_message}. Then
# `--nj 8` sets nj, `--train-set x` and `--train_set x` both set train_set, --help prints the
# message, and parsing stops at the first word that is no option. An option without a default is
# an error, and so is anything but true or false for an option whose default is true or false.

while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h)
            printf '%s\n' "${help_message:-No help was written for $0.}"
            exit 0
            ;;
        --*=*)
            echo "$0: Error: write '${1%%=*} ${1#*=}', with a space, instead of '$1'" >&2
            exit 2
            ;;
        --*)
            _option=${1#--}
            _option=${_option//-/_}
            if ! [[ ${_option} =~ ^[a-z][a-z0-9_]*$ ]] || [ -z "${!_option+set}" ]; then
                echo "$0: Error: unknown option $1; see $0 --help" >&2
                exit 2
            fi
            if [ $# -lt 2 ]; then
                echo "$0: Error: option $1 needs a value" >&2
                exit 2
            fi
            if [[ ${!_option} =~ ^(true|false)$ ]] && ! [[ $2 =~ ^(true|false)$ ]]; then
                echo "$0: Error: option $1 takes true or false, not '$2'" >&2
                exit 2
            fi
            printf -v "${_option}" '%s' "$2"
            shift 2
            ;;
        *)
            break
            ;;
    esac
done
unset _option
