# shellcheck shell=bash
# Where the corpora are. Edit the line, or export the variable: an exported value wins.

# The folder that holds train-clean-100, dev-clean, ... or the LibriSpeech folder with them.
# `./run.sh --corpus librispeech --local_data_opts "--download true"` fetches them from OpenSLR (to
# downloads, if this is empty).
LIBRISPEECH=${LIBRISPEECH:-}
