"""Tables, plots and a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import (
    Verbs,
    add_exp,
    add_out,
    add_verb,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "report", run, "results.json, RESULTS.md, plots and an HTML page",
        "--exp exp/asr --out small --data_root dump/raw --test_sets test --inference_tag decode",
    )  # fmt: skip
    add_exp(verb, checkpoint=False)
    add_out(verb)
    verb.add_argument("--data_root", type=Path, required=True, help="holds SET/text")
    verb.add_argument("--test_sets", required=True, help="decoded sets, in one string")
    verb.add_argument("--inference_tag", required=True, help="folder of the hypotheses in EXP")
    verb.add_argument("--corpus", default="", help="name for the record")
    verb.add_argument("--command", action="append", help="command for the record")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.report.collect import Sources, collect, run_folders
    from espnet_shrink.report.write import write_report

    results = collect(
        Sources(args.exp, args.out, args.data_root, args.test_sets.split(), args.inference_tag,
                args.corpus, args.command or [], run_folders(args.out))
    )  # fmt: skip
    print(write_report(results, args.out))
