"""Energy threshold: every site keeps the same share of its spectrum's energy.

Kaldi's `nnet3 apply-svd` rule (steps/libs/nnet3, energy threshold) with the threshold solved for
the budget instead of given.
"""

from __future__ import annotations

import numpy as np

from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, clipped, largest_within_budget
from espnet_shrink.search.settings import SearchSettings


def energy(problem: Problem) -> Plan:
    """The plan whose sites all keep the largest share of energy that the budget allows."""
    shares = {}
    for name, energies in problem.energies.items():
        sums = np.cumsum(energies, dtype=np.float64)
        shares[name] = sums / max(sums[-1], 1e-30)

    def plan_at(threshold: float) -> Plan:
        return Plan(
            {
                s.name: clipped(problem, s, int(np.searchsorted(shares[s.name], threshold)) + 1)
                for s in problem.sites
            }
        )

    return largest_within_budget(problem, plan_at)


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose the one plan."""
    evaluate([energy(problem)], "energy")
