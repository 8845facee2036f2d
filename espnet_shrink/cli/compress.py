"""All of it: any model in, a smaller packed one out."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from espnet_shrink.cli.verb import (
    Verbs,
    add_asked,
    add_learning_rate,
    add_model,
    add_out,
    add_presets,
    add_seed,
    add_verb,
    compressions,
    rounds_settings,
)
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "compress", run, "make any trained model smaller, by one command",
        "exp/asr --data dump/raw/dev --train dump/raw/train --target 5x --out asr_5x",
        "exp/asr --data dump/raw/dev --target 2x --no-retrain --out asr_2x",
        "espnet/TAG --data dump/raw/dev --train dump/raw/train --target 2x,3x,5x --out sizes",
    )  # fmt: skip
    add_model(verb)
    verb.add_argument("--data", type=Path, required=True, help="dev set, a Kaldi-style folder")
    add_out(verb)
    add_asked(verb)
    verb.add_argument(
        "--target", type=compressions, metavar="N[x],...",
        help="compression to reach, all parameters before / after, such as 5x; several, such as "
        "2x,3x,5x, give a model each; by default that of the rounds preset (5x)",
    )  # fmt: skip
    verb.add_argument(
        "--train",
        type=Path,
        help="training set to retrain on, a Kaldi-style folder; by default what a folder's config "
        "names, if it is here (an archive or tag names none)",
    )
    verb.add_argument(
        "--unlabelled", type=Path, metavar="DIR",
        help="recordings without texts (DIR/wav.scp) to retrain on instead: the uncompressed model "
        "writes the texts and teaches (`distil` of the rounds preset)",
    )  # fmt: skip
    verb.add_argument("--no-retrain", action="store_true", help="search and factorise only")
    add_presets(verb, "rounds", "search")
    add_learning_rate(verb)
    add_seed(verb)
    verb.add_argument("--ngpu", type=int, default=0, help="GPUs to retrain on")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.core.settings import load_settings
    from espnet_shrink.pipeline.compress import compress
    from espnet_shrink.pipeline.job import Request
    from espnet_shrink.search.settings import SearchSettings

    given = [name for name in ("train", "unlabelled") if getattr(args, name) is not None]
    if args.no_retrain and given:
        raise ShrinkError(
            f"--{given[0]} gives data to retrain on, --no-retrain forbids it: give one"
        )
    if len(given) > 1:
        raise ShrinkError("--train and --unlabelled both give data to retrain on: give one")
    settings = rounds_settings(args, max(args.target) if args.target else None)
    search = load_settings(SearchSettings, args.search_config, {"seed": args.seed})
    command = shlex.join(["espnet-shrink", *sys.argv[1:]])
    request = Request(
        args.model, args.target or (settings.target,), args.data, args.out, args.train,
        args.unlabelled, not args.no_retrain, command, args.checkpoint, args.ngpu, args.lang_sym,
        args.task_sym,
    )  # fmt: skip
    done = compress(request, settings, search)
    print(done.summary)
    for packed in done.packed:
        print(f"packed: {packed.archive} ({packed.size_mib:.2f} MiB)")
    for target, outcome in done.outcomes.items():
        if not outcome.reached_target:
            reached = "no model" if outcome.final is None else f"{outcome.final.compression:.2f}x"
            print(f"target {target:g}x NOT reached: {reached}")
