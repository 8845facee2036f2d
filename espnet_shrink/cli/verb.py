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
            help="model file in EXP; by default what the best_model_criterion of its config "
            "names, such as valid.acc.ave.pth",
        )


def add_out(verb: argparse.ArgumentParser) -> None:
    """Add --out."""
    verb.add_argument("--out", type=Path, required=True, help="folder to write to")


def add_workers(verb: argparse.ArgumentParser) -> None:
    """Add --workers."""
    verb.add_argument(
        "--workers",
        metavar="N|ADDRESS",
        help="score plans on N processes of this machine, or on the workers of the Dask scheduler "
        "at ADDRESS; by default in this process, on all cores",
    )
