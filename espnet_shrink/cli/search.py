"""A rank for every site."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.settings import SEARCHERS, SearchSettings

if TYPE_CHECKING:
    from espnet_shrink.compat.models import LoadedModel
    from espnet_shrink.data.kaldi import Utterance
    from espnet_shrink.training.rounds_settings import RoundsSettings


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "search",
        run,
        "search a rank for every site within a budget",
        "--exp exp/asr --proxy small/proxy --data dump/raw/dev --target 2x --out small/plan_2x",
    )
    add_exp(verb)
    add_out(verb)
    add_asked(verb)
    verb.add_argument("--proxy", type=Path, required=True, help="proxy set")
    verb.add_argument(
        "--data", type=Path, required=True, help="dev set, to choose among the best plans"
    )
    add_target(verb, "with --rounds_config, what the rounds are to reach")
    verb.add_argument(
        "--rtf", type=float, help="most seconds of this machine's time per second of audio"
    )
    verb.add_argument("--space", type=Path, help="space.yaml; by default made anew")
    add_presets(verb, "search")
    verb.add_argument(
        "--rounds_config", type=Path, metavar="FILE.yaml",
        help="rounds preset: search the plan of the first round on the way to its target",
    )  # fmt: skip
    defaults = SearchSettings()
    for name, text in (
        ("searcher", ", ".join(SEARCHERS)),
        ("reward", ", ".join(REWARDS)),
        ("evaluations", "plans to score"),
    ):
        default = getattr(defaults, name)
        verb.add_argument(
            f"--{name}", type=type(default),
            help=f"{text}; by default that of the search preset ({default})",
        )  # fmt: skip
    verb.add_argument(
        "--train", type=Path,
        help="training set of the rounds, to whiten by and, with --rounds_config, to try the "
        "retraining on before the search; by default what EXP's config.yaml names",
    )  # fmt: skip
    add_learning_rate(verb)
    add_seed(verb)
    add_workers(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.core.settings import load_settings, require
    from espnet_shrink.pipeline.opening import open_baseline
    from espnet_shrink.pipeline.search import search_ranks
    from espnet_shrink.pipeline.space import space_for

    settings = load_settings(
        SearchSettings, args.search_config,
        {"searcher": args.searcher, "reward": args.reward, "evaluations": args.evaluations,
         "rtf": args.rtf, "seed": args.seed},
    )  # fmt: skip
    target, rounds = args.target, None
    if target is None and args.rounds_config is None and settings.limited:
        target = 1.0  # other limits decide
    if args.rounds_config is not None:
        rounds = rounds_settings(args, args.target)
        target = rounds.first_goal()
    require(
        target is not None, "give --target X, --rtf X, or --rounds_config FILE for its first round"
    )
    require(target >= 1.0, f"target compression must be at least 1, not {target:g}")
    loaded = open_baseline(args.exp, args.checkpoint).asking(args.lang_sym, args.task_sym)
    space = space_for(loaded, args.space, settings)
    full = sum(p.numel() for p in loaded.model.parameters())
    finished = (args.out / "plan.yaml").exists()  # then it is only read
    found = search_ranks(
        loaded, args.proxy, args.data, space, settings, int(full / target), args.out, args.workers,
        [] if finished else _recordings(args, loaded, settings, rounds),
    )  # fmt: skip
    rtf = "" if found.rtf is None else f"RTF {found.rtf:.4f} on this machine, "
    print(
        f"plan {args.out / 'plan.yaml'}: "
        f"{full / found.params:.2f}x ({found.params:,} parameters), {rtf}"
        f"dev {found.dev_score} without retraining, "
        f"by {found.searcher} among {found.evaluations} plans"
    )


def _recordings(
    args: argparse.Namespace,
    loaded: LoadedModel,
    settings: SearchSettings,
    rounds: RoundsSettings | None,
) -> list[Utterance]:
    """Training audio to whiten by; what would stop the rounds is said now, not after the search."""
    from espnet_shrink.data.kaldi import read_folder
    from espnet_shrink.data.moment_data import training_recordings
    from espnet_shrink.data.training_data import training_data
    from espnet_shrink.training.preflight import check_retraining

    keys: Mapping[str, Any] = {}
    if rounds is not None:
        keys = check_retraining(loaded, args.train, args.data, args.out, rounds, ngpu=0).keys
    elif args.train is not None:
        keys = training_data(loaded, args.train, args.data, {}).keys
    count = len(read_folder(args.proxy))
    return training_recordings(loaded, keys, count, settings)
