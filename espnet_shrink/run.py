"""Run an ESPnet program with the plugin: python -m espnet_shrink.run -m espnet2.bin.asr_train ...

Recipes pass `--python "python3 -m espnet_shrink.run"` to asr.sh; every ESPnet program that it
starts then builds compressed models, trains LSTMs on a CPU through the fused padded path, writes
checkpoints whole or not at all, and starts faster, without run-time type checks. What ends a
program is one line; with --debug, which suits logs, its traceback comes before. With --extras what
its YAML file names rides along with the training, such as a teacher (training/extras).
"""

from __future__ import annotations

import runpy
import sys

from espnet_shrink.core.ending import ends_in_one_line

USAGE = (
    "usage: python -m espnet_shrink.run [--debug] [--extras FILE.yaml] -m MODULE [ARG ...]   or   "
    "SCRIPT.py [ARG ...]"
)


def main() -> None:
    """Register the plugin, then run a module or a script as `python` would."""
    arguments = sys.argv[1:]
    debug = arguments[:1] == ["--debug"]
    if debug:
        arguments = arguments[1:]
    extras = arguments[1] if arguments[:1] == ["--extras"] and len(arguments) > 1 else None
    if extras is not None:
        arguments = arguments[2:]
    by_module = arguments[:1] == ["-m"]
    if by_module:
        arguments = arguments[1:]
    if not arguments or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(2)

    from espnet_shrink.compat.hooks import (
        save_checkpoints_whole,
        search_in_batches,
        start_faster,
    )
    from espnet_shrink.layers.patch import use_padded_lstm

    start_faster()
    use_padded_lstm()
    save_checkpoints_whole()
    search_in_batches()
    sys.argv = arguments
    with ends_in_one_line(arguments[0], debug, "python -m espnet_shrink.run --debug ..."):
        if extras is not None:
            _ride_along(extras)
        if by_module:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")


def _ride_along(path: str) -> None:
    from espnet_shrink.compat.hooks import wrap_trained_models
    from espnet_shrink.training.extras import read_extras, wrap_all

    extras = read_extras(path)
    wrap_trained_models(lambda model: wrap_all(extras, model))


if __name__ == "__main__":
    main()
