"""One site at a time: what every rank costs in errors while all other sites stay dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espnet_shrink.plan import (
    Amount,
    Decision,
    Plan,
    dense_plan,
)
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, clipped


@dataclass(frozen=True)
class Scan:
    """Errors by site, over its ranks in ascending order; the last is the highest of the range."""

    ranks: dict[str, list[Amount]]
    errors: dict[str, np.ndarray]


def scan_evaluations(sites: int) -> int:
    """The least that a scan takes: the dense plan, and every site that may be factorised once."""
    return 1 + sites


def scan(problem: Problem, evaluate: Evaluator, evaluations: int, source: str) -> Scan:
    """Score as many ranks of every site as `evaluations` allow, in geometric steps.

    Errors never rise with the rank in what comes back: a rank is as bad as the worst above it.
    """
    dense = dense_plan(problem.sites)
    levels = max(1, (evaluations - 1) // max(1, problem.space.free))
    ladders = {site.name: _ladder(problem, site, levels) for site in problem.sites}
    plans = [Plan({**dense.ranks, n: rank}) for n, ladder in ladders.items() for rank in ladder]
    whole, *found = [trial.score.errors for trial in evaluate([dense, *plans], source)]
    ranks: dict[str, list[Amount]] = {}
    errors: dict[str, np.ndarray] = {}
    for site in problem.sites:
        measured, highest = ladders[site.name], problem.range(site)[1]
        here, found = found[: len(measured)], found[len(measured) :]
        if measured[-1] != highest:
            measured, here = [*measured, highest], [*here, whole]
        ranks[site.name] = measured
        errors[site.name] = np.maximum.accumulate(np.array(here)[::-1])[::-1]
    return Scan(ranks, errors)


def _ladder(problem: Problem, site: Decision, levels: int) -> list[Amount]:
    low, high = (site.params_at(rank) for rank in problem.range(site))
    steps = np.geomspace(low, high, levels + 1)[:-1] / site.price
    ladder = [clipped(problem, site, max(1, round(float(step)))) for step in steps]
    return sorted(set(ladder), key=site.params_at)
