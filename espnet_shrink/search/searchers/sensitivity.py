"""Sensitivity: one threshold on what each site alone loses, bisected to the budget.

Sensitivity-based truncation rank searching of ASVD (2312.05821), with errors in the place of
perplexity: every site is scanned alone and takes the smallest rank that loses no more than the
threshold.
"""

from __future__ import annotations

import numpy as np

from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget
from espnet_shrink.search.searchers.scan import Scan, scan, scan_evaluations
from espnet_shrink.search.settings import SearchSettings


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of a scan, and of the plan."""
    return scan_evaluations(sites) + 1


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Spend all evaluations but one on the scan, and propose the one plan."""
    found = scan(problem, evaluate, evaluate.left - 1, "sensitivity")
    evaluate([sensitivity(problem, found)], "sensitivity")


def sensitivity(problem: Problem, found: Scan) -> Plan:
    """The plan of the lowest threshold within the budget; what that leaves goes to all sites."""

    def plan_at(threshold: float) -> Plan:
        ranks = {}
        for site in problem.sites:
            keeps = found.errors[site.name] <= threshold
            # The last is the highest rank: it is what is left if none is good enough.
            first = int(np.argmax(keeps)) if keeps.any() else -1
            ranks[site.name] = found.ranks[site.name][first]
        return Plan(ranks)

    thresholds = sorted({float(e) for errors in found.errors.values() for e in errors})
    # Plans shrink as the threshold rises.
    plan = next(
        (p for p in map(plan_at, thresholds) if problem.feasible(p)), plan_at(thresholds[-1])
    )
    sizes = [site.params_at(plan.amounts[site.name]) for site in problem.sites]
    return fit_to_budget(problem, np.log(sizes))
