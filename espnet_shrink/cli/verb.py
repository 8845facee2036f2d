"""What the verbs of the command line share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verbs = Any
"""What `ArgumentParser.add_subparsers` gives."""


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Add a verb whose help shows `text` and every option's default."""
    show_defaults = argparse.ArgumentDefaultsHelpFormatter
    new = verbs.add_parser(name, help=text, description=text, formatter_class=show_defaults)
    new.set_defaults(run=run)
    return new


def add_exp(verb: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """Add --exp and, if a model is loaded from there, --checkpoint."""
    verb.add_argument("--exp", type=Path, required=True, help="ESPnet experiment folder")
    if checkpoint:
        verb.add_argument(
            "--checkpoint",
            help="model file in EXP; by default the first of valid.acc.ave.pth, "
            "valid.loss.ave.pth, valid.acc.best.pth, latest.pth",
        )


def add_out(verb: argparse.ArgumentParser) -> None:
    """Add --out."""
    verb.add_argument("--out", type=Path, required=True, help="folder to write to")


def add_asked(verb: argparse.ArgumentParser) -> None:
    """Add --lang_sym and --task_sym, named as in ESPnet's s2t_inference."""
    for name, what, example in (("lang_sym", "language", "<eng>"), ("task_sym", "task", "<asr>")):
        verb.add_argument(
            f"--{name}",
            help=f"{what} that a speech-to-text (OWSM) model is asked for where the text in DATA "
            f"has no such tag in front; by default {example}",
        )


def add_workers(verb: argparse.ArgumentParser) -> None:
    """Add --workers."""
    verb.add_argument(
        "--workers",
        metavar="N|ADDRESS",
        help="score plans on N processes of this machine, or on the workers of the Dask scheduler "
        "at ADDRESS; by default in this process, on all cores",
    )
