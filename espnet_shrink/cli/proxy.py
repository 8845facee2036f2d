"""The few utterances on which plans are scored."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import (
    Verbs,
    add_asked,
    add_exp,
    add_out,
    add_verb,
)
from espnet_shrink.data import PROXY_SIZE


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "proxy", run, "choose the few utterances on which plans are scored",
        "--exp exp/asr --data dump/raw/dev --out small/proxy",
    )  # fmt: skip
    add_exp(verb)
    add_out(verb)
    add_asked(verb)
    verb.add_argument("--data", type=Path, required=True, help="dev set, a Kaldi-style folder")
    verb.add_argument(
        "--size", type=int, help=f"utterances to choose; by default {PROXY_SIZE}, or all if there "
        "are fewer",
    )  # fmt: skip
    verb.add_argument(
        "--method",
        default="ordered",
        help="random, stratified (by length and errors), or ordered (so that plans come out in "
        "the order that they have on all of the dev set)",
    )
    verb.add_argument("--seed", type=int, default=0, help="random seed")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.data.kaldi import read_folder
    from espnet_shrink.pipeline.opening import open_baseline
    from espnet_shrink.pipeline.proxy import make_proxy

    size = min(PROXY_SIZE, len(read_folder(args.data))) if args.size is None else args.size
    loaded = open_baseline(args.exp, args.checkpoint).asking(args.lang_sym, args.task_sym)
    made = make_proxy(loaded, args.data, args.out, size, args.method, args.seed)
    state = "made" if made.made else "already there"
    print(
        f"proxy set {made.folder}: {made.size} utterances ({state}); the uncompressed model has "
        f"{made.score} on it, {made.data_score} on all of {args.data}; it should "
        f"order plans as those do with Kendall's tau {made.kendall_tau:.2f}"
    )
