"""Search, factorise, retrain, again."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import (
    Verbs,
    add_asked,
    add_exp,
    add_learning_rate,
    add_out,
    add_presets,
    add_seed,
    add_target,
    add_verb,
    add_workers,
    rounds_settings,
)
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "rounds", run, "search, factorise and retrain in rounds, to the target",
        "--exp exp/asr --proxy small/proxy --data dump/raw/dev --target 5x --out small",
    )  # fmt: skip
    add_exp(verb)
    add_out(verb)
    add_asked(verb)
    verb.add_argument("--proxy", type=Path, required=True, help="proxy set")
    verb.add_argument("--data", type=Path, required=True, help="dev set, to accept rounds on")
    verb.add_argument(
        "--train", type=Path, help="training set; by default what EXP's config.yaml names"
    )
    verb.add_argument("--plan", type=Path, help="plan.yaml for the first round")
    verb.add_argument(
        "--space", type=Path, help="space.yaml of all rounds; by default OUT's, if any"
    )
    add_presets(verb, "rounds", "search")
    add_target(verb)
    add_learning_rate(verb)
    add_seed(verb)
    verb.add_argument("--ngpu", type=int, default=0, help="GPUs to retrain on")
    add_workers(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.core.out_folder import check_out
    from espnet_shrink.core.settings import load_settings
    from espnet_shrink.pipeline.opening import open_baseline
    from espnet_shrink.pipeline.rounds import run_rounds
    from espnet_shrink.pipeline.search import read_plan
    from espnet_shrink.pipeline.space import space_for
    from espnet_shrink.search.settings import SearchSettings
    from espnet_shrink.training.retraining import espnet2_retraining

    settings = rounds_settings(args, args.target)
    search = load_settings(SearchSettings, args.search_config, {"seed": args.seed})
    plan = None if args.plan is None else read_plan(args.plan)
    check_out(args.out, retrain=True)
    loaded = open_baseline(args.exp, args.checkpoint).asking(args.lang_sym, args.task_sym)
    space = None if args.space is None else space_for(loaded, args.space, search)
    retraining = espnet2_retraining(loaded, args.train, args.data, args.out, settings, args.ngpu)
    outcome = run_rounds(
        loaded, args.proxy, args.data, args.out, settings, search, args.ngpu, plan,
        workers=args.workers, space=space, retraining=retraining,
    )  # fmt: skip
    if outcome.final is None:
        raise ShrinkError(
            f"no round kept dev {outcome.metric.upper()} within its limit "
            f"(see {args.out}/round*/round.yaml): "
            "lower --target, or raise epochs in the rounds preset"
        )
    word = "reached" if outcome.reached_target else "NOT reached"
    print(
        f"target {settings.target:g}x {word}: {outcome.final.compression:.2f}x, "
        f"{outcome.final.params:,} of {outcome.baseline.params:,} parameters, "
        f"model in {args.out}/round{outcome.final.round}"
    )
