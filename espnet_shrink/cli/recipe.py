"""The recipe, for those who have an ESPnet checkout."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "recipe", run, "put the recipe into an ESPnet checkout", "~/espnet")
    verb.add_argument("dir", metavar="DIR", type=Path, help="root of the checkout")
    verb.add_argument(
        "--link",
        action="store_true",
        help="link to the recipe's files instead of copying them, so that they change with "
        "espnet_shrink",
    )


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.recipe import install_recipe

    folder = install_recipe(args.dir, args.link)
    print(f"{folder}: run ./run.sh there, or from the folder of another recipe (see README.md)")
