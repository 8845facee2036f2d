"""A plan of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import (
    Verbs,
    add_model,
    add_out,
    add_verb,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "apply", run, "factorise a model by a plan, without a search and without retraining",
        "exp/asr --plan plan.yaml --data dump/raw/dev --out asr_by_hand",
    )  # fmt: skip
    add_model(verb)
    verb.add_argument(
        "--plan", type=Path, required=True, metavar="PLAN.yaml",
        help="`ranks:` and below it a line `SITE: RANK` for every matrix to factorise, by "
        "its name in `espnet-shrink inspect MODEL`; all others stay dense. A search writes one",
    )  # fmt: skip
    verb.add_argument(
        "--data", type=Path,
        help="Kaldi-style folder: whiten the decomposition by the inputs that "
        "every matrix meets on it, and print the errors before and after; by default a plain SVD",
    )  # fmt: skip
    add_out(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.pipeline.apply import apply_plan
    from espnet_shrink.pipeline.opening import open_model
    from espnet_shrink.plan import Plan
    from espnet_shrink.sources import open_source

    plan = Plan.load(args.plan)
    source = open_source(args.model, args.out / "base", args.checkpoint)
    loaded = open_model(source.config, source.checkpoint)
    done = apply_plan(loaded, plan, args.data, args.out)
    if done.before is not None and done.after is not None:
        print(f"greedy: {done.before} -> {done.after} on {args.data}")
    print(
        f"model in {args.out}: {done.params_before / done.params:.2f}x, {done.params:,} of "
        f"{done.params_before:,} parameters, {done.factorised} matrices factorised"
    )
