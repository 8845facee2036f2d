"""REINFORCE: a policy learns by which offsets a good plan gets better (after ShrinkML, 1907.03540).

The search starts from the best plan of three rules. An action is an offset in log parameters from
that plan, one for every site. One factor then scales the sites to the budget, so every rollout
meets it, and what one site takes more is taken from all others.

The policy is a normal distribution of the offsets, with a mean and a spread for every site. It
follows the gradient of REINFORCE (Williams 1992, section 6) times the inverse of the policy's
Fisher information (the natural gradient: Kakade 2001), which for this policy is a closed form
without a step size that depends on the scale of errors. Rewards enter by their rank among the
rollouts of an update, which is baseline and normalisation in one (Wierstra et al. 2014, Natural
Evolution Strategies, section 3.1 and table 1, whose constants are taken as they are).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import (
    Problem,
    fit_to_budget,
    log_sizes_of,
    plan_of_sizes,
)
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.searchers.energy import energy
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.searchers.uniform import uniform
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.trial import Trial

RULES = {"uniform": uniform, "energy": energy, "energy_order": energy_order}

SPREAD = 0.2  # of the offsets at first, in log parameters of a site
MEAN_RATE = 1.0
SPREAD_RATE = 1.0  # times (3 + ln sites) / (5 sqrt(sites))
TRIES = 30  # to sample a new plan
WIDENING = 1.02  # of the spread when a plan comes up again: the policy has settled


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of the rules, and of the rollouts of one update."""
    return len(RULES) + settings.rollouts


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Score the rules' plans, then rollouts that start from the best of them."""
    learner = Reinforce(problem, settings, best_of_rules(problem, evaluate))
    while rollouts := learner.ask(settings.rollouts):
        learner.tell(rollouts, evaluate([r.plan for r in rollouts], "reinforce"))


def best_of_rules(problem: Problem, evaluate: Evaluator) -> Plan:
    """Score the plan of every rule; the best of them."""
    for name, rule in RULES.items():
        evaluate([rule(problem)], name)
    return evaluate.result.best.plan


@dataclass(frozen=True)
class Rollout:
    """One sample of the policy: log parameters of every site before scaling, and the plan."""

    action: tuple[float, ...]
    plan: Plan


class Reinforce:
    """Ask for rollouts, tell what they scored."""

    def __init__(self, problem: Problem, settings: SearchSettings, prior: Plan) -> None:
        self.problem, self.settings = problem, settings
        self.mean = log_sizes_of(problem, prior)
        sites = len(self.mean)
        self.spread = np.full(sites, SPREAD)
        self.spread_rate = SPREAD_RATE * (3 + math.log(sites)) / (5 * math.sqrt(sites))
        self.generator = np.random.default_rng(settings.seed)
        self.seen: set[str] = set()

    def ask(self, count: int) -> list[Rollout]:
        """Sample `count` rollouts, of plans that were not sampled before; fewer if few are left."""
        rollouts: list[Rollout] = []
        for _ in range(TRIES * count):
            action = self.generator.normal(self.mean, self.spread)
            plan = self._plan(action)
            if plan.hash in self.seen:
                self.spread = self.spread * WIDENING
                continue
            self.seen.add(plan.hash)
            rollouts.append(Rollout(tuple(action), plan))
            if len(rollouts) == count:
                break
        return rollouts

    def _plan(self, log_sizes: np.ndarray) -> Plan:
        if self.settings.reward == "hard":
            return fit_to_budget(self.problem, log_sizes)
        return plan_of_sizes(self.problem, np.exp(log_sizes))

    def tell(self, rollouts: Sequence[Rollout], trials: Sequence[Trial]) -> None:
        """Learn from what the rollouts scored."""
        advantages = shaped([self._reward(trial) for trial in trials])
        offsets = (np.array([r.action for r in rollouts]) - self.mean) / self.spread
        self.mean = self.mean + MEAN_RATE * self.spread * (advantages @ offsets)
        growth = self.spread_rate / 2 * (advantages @ (offsets**2 - 1))
        self.spread = self.spread * np.exp(growth)

    def _reward(self, trial: Trial) -> float:
        excess = self.problem.excess(trial.plan)
        return REWARDS[self.settings.reward](trial.score.errors, excess)


def shaped(rewards: Sequence[float]) -> np.ndarray:
    """Rewards to advantages (rollouts,) that sum to 0, by rank; equal ones get equal advantages."""
    values, count = np.array(rewards), len(rewards)
    by_rank = np.maximum(0.0, np.log(count / 2 + 1) - np.log(np.arange(1, count + 1)))
    by_rank = by_rank / by_rank.sum() - 1 / count
    result = np.empty(count)
    result[np.argsort(-values, kind="stable")] = by_rank
    for value in set(rewards):
        result[values == value] = result[values == value].mean()
    return result
