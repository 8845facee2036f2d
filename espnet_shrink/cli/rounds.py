"""Stage 19: search, factorise, retrain, again."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_asked, add_exp, add_out, add_verb, add_workers
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "rounds", run, "search, factorise and retrain in rounds, to the target")
    add_exp(verb)
    add_out(verb)
    add_asked(verb)
    verb.add_argument("--proxy", type=Path, required=True, help="proxy set")
    verb.add_argument("--data", type=Path, required=True, help="dev set, to accept rounds on")
    verb.add_argument(
        "--train", type=Path, help="training set; by default what EXP's config.yaml names"
    )
    verb.add_argument("--plan", type=Path, help="plan.yaml for the first round")
    verb.add_argument("--config", type=Path, help="rounds preset, as conf/rounds.yaml")
    verb.add_argument("--search_config", type=Path, help="search preset, as conf/search.yaml")
    verb.add_argument("--target", type=float, help="compression: parameters before / after")
    verb.add_argument("--seed", type=int, help="random seed of the searches")
    verb.add_argument("--ngpu", type=int, default=0, help="GPUs to retrain on")
    add_workers(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    import dataclasses

    from espnet_shrink.rounds import RoundsSettings, run_rounds
    from espnet_shrink.search.settings import SearchSettings
    from espnet_shrink.settings import load_settings
    from espnet_shrink.stages import open_baseline, read_plan
    from espnet_shrink.training_data import training_data

    settings = load_settings(RoundsSettings, args.config, {"target": args.target})
    search = load_settings(SearchSettings, args.search_config, {"seed": args.seed})
    plan = None if args.plan is None else read_plan(args.plan)
    loaded = open_baseline(args.exp, args.checkpoint).asking(args.lang_sym, args.task_sym)
    train = training_data(loaded, args.train, args.data, args.out / "train_data", settings.train)
    settings = dataclasses.replace(settings, train=train)
    outcome = run_rounds(
        loaded, args.proxy, args.data, args.out, settings, search, args.ngpu, plan,
        workers=args.workers,
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
