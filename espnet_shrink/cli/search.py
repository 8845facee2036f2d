"""Stage 18: a rank for every site."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_asked, add_exp, add_out, add_verb, add_workers
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.settings import SEARCHERS, SearchSettings


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "search", run, "search a rank for every site within a budget")
    add_exp(verb)
    add_out(verb)
    add_asked(verb)
    verb.add_argument("--proxy", type=Path, required=True, help="proxy set")
    verb.add_argument(
        "--data", type=Path, required=True, help="dev set, to choose among the best plans"
    )
    verb.add_argument("--target", type=float, help="compression: parameters before / after")
    verb.add_argument(
        "--rtf", type=float, help="most seconds of this machine's time per second of audio"
    )
    verb.add_argument("--rounds_config", type=Path, help="rounds preset: aim at its first round")
    verb.add_argument("--space", type=Path, help="space.yaml; by default made anew")
    verb.add_argument("--config", type=Path, help="search preset, as conf/search.yaml")
    verb.add_argument("--searcher", help=", ".join(SEARCHERS))
    verb.add_argument("--reward", help=", ".join(REWARDS))
    verb.add_argument("--evaluations", type=int, help="plans to score")
    verb.add_argument("--seed", type=int, help="random seed")
    add_workers(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.lowrank.sites import survey
    from espnet_shrink.proxy.features import extract
    from espnet_shrink.rounds import RoundsSettings
    from espnet_shrink.search.space import SearchSpace, full_space
    from espnet_shrink.settings import load_settings, require
    from espnet_shrink.stages import open_baseline, search_ranks

    settings = load_settings(
        SearchSettings, args.config,
        {"searcher": args.searcher, "reward": args.reward, "evaluations": args.evaluations,
         "rtf": args.rtf, "seed": args.seed},
    )  # fmt: skip
    target = args.target
    if target is None and args.rounds_config is None and settings.rtf < math.inf:
        target = 1.0  # time alone decides
    if args.rounds_config is not None:
        target = load_settings(
            RoundsSettings, args.rounds_config, {"target": args.target}
        ).first_goal()
    require(
        target is not None, "give --target X, --rtf X, or --rounds_config FILE for its first round"
    )
    require(target >= 1.0, f"target compression must be at least 1, not {target:g}")
    loaded = open_baseline(args.exp, args.checkpoint).asking(args.lang_sym, args.task_sym)
    sites = survey(loaded.model).sites
    if args.space is None:
        space = full_space(sites, settings.min_rank)
    else:
        space = SearchSpace.load(args.space)
        space.check(sites)
    full = sum(p.numel() for p in loaded.model.parameters())
    found = search_ranks(
        loaded, extract(loaded, args.proxy), args.data, space, settings, int(full / target),
        args.out, args.workers,
    )  # fmt: skip
    rtf = "" if found.rtf is None else f"RTF {found.rtf:.4f} on this machine, "
    print(
        f"plan {args.out / 'plan.yaml'}: "
        f"{full / found.params:.2f}x ({found.params:,} parameters), {rtf}"
        f"dev {found.dev_score} without retraining, "
        f"by {found.searcher} among {found.evaluations} plans"
    )
