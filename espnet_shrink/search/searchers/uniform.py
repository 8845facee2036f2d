"""Uniform: every site keeps the same fraction of its full rank, the largest the budget allows."""

from __future__ import annotations

from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, clipped, largest_within_budget
from espnet_shrink.search.settings import SearchSettings


def uniform(problem: Problem) -> Plan:
    """The uniform plan."""

    def plan_at(fraction: float) -> Plan:
        return Plan({s.name: clipped(problem, s, int(fraction * s.full)) for s in problem.sites})

    return largest_within_budget(problem, plan_at)


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose the one plan."""
    evaluate([uniform(problem)], "uniform")
