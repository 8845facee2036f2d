#!/usr/bin/env python3
"""Refuse options of a decoding that ESPnet's program does not know, before anything long begins.

check_decoding.py PROGRAM OPTION...: PROGRAM is a module of espnet2.bin.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys

from corpus_io import run

from espnet_shrink.compat.hooks import start_faster
from espnet_shrink.errors import ShrinkError

# What the program requires, and stage 12 always gives.
GIVEN = {
    "output_dir": "out",
    "data_path_and_name_and_type": "wav.scp,speech,sound",
    "asr_train_config": "config.yaml",
    "asr_model_file": "model.pth",
}


def main() -> None:
    name, *options = sys.argv[1:]
    if options[:2] == ["--config", ""]:
        options = options[2:]
    options += [word for key, value in GIVEN.items() for word in (f"--{key}", value)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            start_faster()
            importlib.import_module(f"espnet2.bin.{name}").get_parser().parse_args(options)
    except ImportError as error:
        raise ShrinkError(f"decoding needs espnet2.bin.{name}: {error}") from error
    except SystemExit as end:
        reason = said.getvalue().strip().splitlines()[-1].rpartition("error: ")[2]
        raise ShrinkError(
            f"espnet2.bin.{name}: {reason} (--inference_config, --inference_args)"
        ) from end


if __name__ == "__main__":
    run(main)
