"""The presets, to look at and to edit."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "settings", run, "list the presets, which explain every setting, or copy them",
        "", "--out conf",
    )  # fmt: skip
    verb.add_argument(
        "--out", type=Path, help="folder to copy the presets into, to edit them there"
    )


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.presets import copy_presets, first_line, presets

    if args.out is not None:
        for copy in copy_presets(args.out):
            print(copy)
        return
    for name, path in presets().items():
        print(f"{name:<8} {path}\n         {first_line(path)}")
