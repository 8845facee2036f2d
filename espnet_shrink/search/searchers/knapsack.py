"""Knapsack: the ranks that lose least by the integer programme over measured errors of each site.

Every site is scanned alone; the errors of ranks between are interpolated over log parameters, and
the sum over sites is taken for the errors of a plan. `scipy.optimize.milp` solves it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, coo_array

from espnet_shrink.plan import (
    DENSE,
    Amount,
    Decision,
    Plan,
)
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, clipped
from espnet_shrink.search.searchers.scan import Scan, scan, scan_evaluations
from espnet_shrink.search.settings import SearchSettings

TIE = 1e-3  # weight of the spectrum's lost share, in percent: it parts ranks that measure the same
SECONDS = 20.0


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of a scan, and of the plan."""
    return scan_evaluations(sites) + 1


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Spend all evaluations but one on the scan, and propose the one plan."""
    found = scan(problem, evaluate, evaluate.left - 1, "knapsack")
    evaluate([knapsack(problem, found)], "knapsack")


def knapsack(problem: Problem, found: Scan) -> Plan:
    """The plan within the budget whose interpolated errors sum to the least."""
    ranks = {site.name: _ranks(problem, site) for site in problem.sites}
    prices = [[site.params_at(rank) for rank in ranks[site.name]] for site in problem.sites]
    losses = [_losses(problem, site, ranks[site.name], found) for site in problem.sites]
    constraints = [
        LinearConstraint(block_diag([coo_array(np.ones((1, len(p)))) for p in prices]), 1, 1),
        LinearConstraint(np.concatenate(prices)[None] / problem.site_budget, -np.inf, 1.0),
    ]
    for limit in problem.limits:
        taken = [limit.price(s, rank) for s in problem.sites for rank in ranks[s.name]]
        spare = limit.most - limit.rest
        constraints.append(LinearConstraint(np.array(taken)[None] / spare, -np.inf, 1.0))
    chosen = milp(
        np.concatenate(losses),
        integrality=np.ones(sum(map(len, prices))),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": SECONDS, "mip_rel_gap": 1e-4},
    ).x
    ends = np.cumsum([len(p) for p in prices])[:-1]
    return Plan(
        {
            site.name: ranks[site.name][int(part.argmax())]
            for site, part in zip(problem.sites, np.split(chosen, ends), strict=True)
        }
    )


def _ranks(problem: Problem, site: Decision) -> list[Amount]:
    lowest, highest = problem.range(site)
    if lowest == DENSE:
        return [DENSE]
    top = problem.largest_rank(site) if highest == DENSE else int(highest)
    steps = np.geomspace(int(lowest), top, 60)
    ranks: list[Amount] = sorted(
        {clipped(problem, site, round(float(step))) for step in steps}, key=site.params_at
    )
    ranks = [rank for rank in ranks if rank != DENSE]
    return [*ranks, DENSE] if highest == DENSE else ranks


def _losses(problem: Problem, site: Decision, ranks: list[Amount], found: Scan) -> np.ndarray:
    sizes = np.log([site.params_at(rank) for rank in ranks])
    measured = np.log([site.params_at(rank) for rank in found.ranks[site.name]])
    energies = problem.energies[site.name]
    kept = np.concatenate([[0.0], np.cumsum(energies, dtype=np.float64)]) / max(
        energies.sum(), 1e-30
    )
    lost = [0.0 if rank == DENSE else 1.0 - kept[int(rank)] for rank in ranks]
    return np.interp(sizes, measured, found.errors[site.name]) + TIE * np.array(lost)
