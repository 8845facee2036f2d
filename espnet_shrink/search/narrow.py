"""A smaller search space: ranks at which a site alone already loses too much are left out."""

from __future__ import annotations

import dataclasses

import numpy as np

from espnet_shrink.plan import Amount, Plan
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.scan import Scan
from espnet_shrink.search.space import SearchSpace


def narrowed(problem: Problem, found: Scan, limit: float) -> Problem:
    """The problem with ranges that the scan leaves.

    A site's lowest rank is the smallest that adds at most `limit` errors, its highest the smallest
    that adds none; a limit under which the budget cannot be met is raised to the lowest under
    which it can.

    Args:
        found: every site alone.
        limit: percent.
    """
    losses = {name: errors - errors[-1] for name, errors in found.errors.items()}
    limits = sorted({limit, *(float(x) for loss in losses.values() for x in loss if x > limit)})
    for raised in limits:
        smaller = SearchSpace({s.name: _range(problem, s.name, found, losses[s.name], raised)
                               for s in problem.sites})  # fmt: skip
        least = Plan({name: ranks[0] for name, ranks in smaller.ranges.items()})
        if problem.feasible(least):
            break
    else:
        return problem
    return dataclasses.replace(problem, space=smaller)


def _range(
    problem: Problem, name: str, found: Scan, losses: np.ndarray, limit: float
) -> tuple[Amount, Amount]:
    """From the first rank within the limit to the first without loss; they ascend, losses fall."""
    ranks = found.ranks[name]
    return ranks[int(np.argmax(losses <= limit))], ranks[int(np.argmax(losses <= 0.0))]


def share_left(before: Problem, after: Problem) -> float:
    """The share of all ranks of all sites that is left in the ranges, the mean over sites."""
    shares = []
    for site in before.sites:
        low, high = (site.params_at(r) for r in before.range(site))
        new_low, new_high = (site.params_at(r) for r in after.range(site))
        shares.append((new_high - new_low) / (high - low) if high > low else 1.0)
    return float(np.mean(shares))
