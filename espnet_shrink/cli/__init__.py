"""espnet-shrink VERB: one file for each step from a trained model to a smaller one."""

from __future__ import annotations

import argparse
import logging
import warnings

from espnet_shrink.cli import (
    apply,
    compress,
    export,
    inspect,
    pack,
    proxy,
    recipe,
    report,
    rounds,
    search,
    settings,
    space,
    unpack,
    whisper,
)
from espnet_shrink.cli.verb import Parser
from espnet_shrink.compat.hooks import start_faster
from espnet_shrink.core.ending import ends_in_one_line
from espnet_shrink.version import __version__

DESCRIPTION = """\
Make a trained ESPnet recogniser smaller: choose a rank for every weight matrix by a search on a
few utterances, factorise, retrain, and go on until the target compression is reached.

All of it, with any model:
  espnet-shrink compress MODEL --data dump/raw/dev --train dump/raw/train --target 5x --out OUT

MODEL is an experiment folder (config.yaml and a checkpoint), one of its files, a packed archive, or
a tag of Hugging Face or ESPnet's model zoo. Step by step, each explained by its own --help:
  inspect    what a model consists of
  unpack     an experiment folder of an archive or a tag
  whisper    an experiment folder of a checkpoint of OpenAI's Whisper
  settings   the presets of search and rounds, to edit
  proxy      the few utterances on which plans are scored
  space      the ranks that every matrix may have, to edit
  search     a rank for every matrix
  apply      a plan of your own, without a search
  rounds     search, factorise, retrain, again
  report     tables, plots and a page of what decoding gave
  export     a plain ESPnet model, or ONNX
  pack       one archive with model card and report
  recipe     all of it as a recipe in an ESPnet checkout

Run from the recipe folder, since the paths in ESPnet's configs are relative to it. Each step
resumes where it was cut off, and does nothing when its result is there already."""

VERBS = [
    compress, inspect, unpack, whisper, settings, proxy, space, search, apply, rounds, report,
    export, pack, recipe,
]  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line, with help for every verb."""
    top = Parser(
        prog="espnet-shrink",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in VERBS:
        module.add(verbs)
    for verb in verbs.choices.values():
        verb.add_argument(
            "--debug", action="store_true", help="show the traceback of what went wrong"
        )
    return top


def main() -> None:
    """Entry point: what goes wrong is one line on stderr and exit status 2."""
    args = parser().parse_args()
    start_faster()
    # ESPnet warns at every decoding step of what only matters to tracing.
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("ignore")
    with ends_in_one_line(f"espnet-shrink {args.verb}", args.debug, "run again with --debug"):
        args.run(args)
