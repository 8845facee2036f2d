"""Run an ESPnet program with the plugin: python -m espnet_shrink.run -m espnet2.bin.asr_train ...

Recipes pass `--python "python3 -m espnet_shrink.run"` to asr.sh; every ESPnet program that it
starts then builds compressed models, trains LSTMs on a CPU through the fused padded path, writes
checkpoints whole or not at all, and starts faster, without run-time type checks. What ends a
program is one line; with --debug, which suits logs, its traceback comes before.
"""

from __future__ import annotations

import runpy
import sys

from espnet_shrink.core.ending import ends_in_one_line

USAGE = (
    "usage: python -m espnet_shrink.run [--debug] -m MODULE [ARG ...]   or   SCRIPT.py [ARG ...]"
)


def main() -> None:
    """Register the plugin, then run a module or a script as `python` would."""
    arguments = sys.argv[1:]
    debug = arguments[:1] == ["--debug"]
    if debug:
        arguments = arguments[1:]
    by_module = arguments[:1] == ["-m"]
    if by_module:
        arguments = arguments[1:]
    if not arguments or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(2)

    from espnet_shrink.compat.hooks import save_checkpoints_whole, skip_type_checks
    from espnet_shrink.layers.patch import use_padded_lstm

    skip_type_checks()
    use_padded_lstm()
    save_checkpoints_whole()
    sys.argv = arguments
    with ends_in_one_line(arguments[0], debug, "python -m espnet_shrink.run --debug ..."):
        if by_module:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
