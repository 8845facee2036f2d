"""The ranks that every site may have."""

from __future__ import annotations

import argparse

from espnet_shrink.cli.verb import (
    Verbs,
    add_exp,
    add_out,
    add_presets,
    add_verb,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "space", run, "list the sites and write the ranks that each may have",
        "--exp exp/asr --out small",
    )  # fmt: skip
    add_exp(verb)
    add_out(verb)
    add_presets(verb, "search")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.core.settings import load_settings
    from espnet_shrink.methods.registry import method_of
    from espnet_shrink.pipeline.opening import open_baseline
    from espnet_shrink.pipeline.space import make_space
    from espnet_shrink.plan import Why, describe
    from espnet_shrink.search.settings import SearchSettings

    loaded = open_baseline(args.exp, args.checkpoint)
    settings = load_settings(SearchSettings, args.search_config, {})
    space = make_space(loaded, args.out, settings)
    found = method_of(settings.method).survey(loaded.model)
    total = loaded.params
    print(f"{'site':<44} {'kind':<15} {'shape':>11} {'share':>6}  ranks")
    for site in found.sites:
        lowest, highest = space.ranges[site.name]
        print(
            f"{site.name:<44} {site.kind:<15} {site.shape[0]:>5}x{site.shape[1]:<5} "
            f"{site.params / total:>6.1%}  {lowest} ... {highest}"
        )
    for line in describe(found):
        print(f"not compressed: {line}")
    vectors = sum(u.params for u in found.uncompressed if u.why is Why.VECTOR)
    print(f"vectors (biases, norms) keep their {vectors:,} of {total:,} parameters")
    print(f"search space: {args.out / 'space.yaml'} (may be edited; it holds for all rounds)")
