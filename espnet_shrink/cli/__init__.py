"""espnet-shrink VERB: one file for each step from a trained model to a smaller one."""

from __future__ import annotations

import argparse
import logging
import warnings

from espnet_shrink.cli import (
    compress,
    export,
    inspect,
    pack,
    proxy,
    recipe,
    report,
    rounds,
    search,
    space,
    unpack,
)
from espnet_shrink.compat.hooks import skip_type_checks
from espnet_shrink.ending import ends_in_one_line

DESCRIPTION = """\
Make a trained ESPnet recogniser smaller: choose a rank for every weight matrix by a search on a
few utterances, factorise, retrain, and go on until the target compression is reached.

All of it, with any model:
  espnet-shrink compress MODEL --data dump/raw/dev --train dump/raw/train --target 5x --out OUT

MODEL is an experiment folder (config.yaml and a checkpoint), one of its files, a packed archive, or
a tag of Hugging Face or ESPnet's model zoo. Step by step, with an experiment folder EXP:
  espnet-shrink inspect MODEL --plot spectra.png
  espnet-shrink unpack MODEL --out EXP                                      (archives and tags)
  espnet-shrink proxy  --exp EXP --data dump/raw/dev --out OUT/proxy
  espnet-shrink space  --exp EXP --out OUT
  espnet-shrink search --exp EXP --proxy OUT/proxy --out OUT/search --target 2
  espnet-shrink rounds --exp EXP --proxy OUT/proxy --data dump/raw/dev --out OUT --target 5
  espnet-shrink report --exp EXP --out OUT --data_root dump/raw --test_sets "test" \\
                       --inference_tag TAG
  espnet-shrink export --exp OUT/roundN --dense|--onnx --out DIR
  espnet-shrink pack   --exp OUT/roundN --base EXP --report OUT --out MODEL.zip

Run from the recipe folder, since the paths in ESPnet's configs are relative to it. Each step
resumes where it was cut off, and does nothing when its result is there already."""

VERBS = [compress, inspect, unpack, proxy, space, search, rounds, report, export, pack, recipe]


def parser() -> argparse.ArgumentParser:
    """The command line, with help for every verb."""
    top = argparse.ArgumentParser(
        prog="espnet-shrink",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    skip_type_checks()
    # ESPnet warns at every decoding step of what only matters to tracing.
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("ignore")
    with ends_in_one_line(f"espnet-shrink {args.verb}", args.debug, "run again with --debug"):
        args.run(args)
