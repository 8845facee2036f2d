# shellcheck shell=bash
# How jobs are run: CMD [--gpu N] [--mem SIZE] [--num_threads N] [--name NAME] [JOB=1:N] LOG COMMAND...
# Without ESPnet there is one way, on this machine. In an ESPnet checkout its other backends work
# as well: take its cmd.sh instead of this one.
cmd_backend=local

if [ "${cmd_backend}" = local ]; then
    export train_cmd="run.pl"  # data formatting and statistics
    export cuda_cmd="run.pl"   # training
    export decode_cmd="run.pl" # decoding
else
    echo "cmd.sh: Error: cmd_backend=${cmd_backend} needs ESPnet's own utils; use cmd_backend=local" >&2
    exit 2
fi
