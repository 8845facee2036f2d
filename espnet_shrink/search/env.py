"""The search as a Gymnasium environment, for any library of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from espnet_shrink.plan import Plan
from espnet_shrink.search.problem import Problem, fit_to_budget, log_sizes_of
from espnet_shrink.search.reward import hard
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.trial import Trial

# Actions of -1 and 1 divide and multiply a site's parameters by e.
REACH = 1.0


class RankSearchEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """An episode is a plan, a step is a site.

    Action: (1,), from -1 to 1: how far the site's parameters go, in log scale, from what the
    energy order gives it. At the end all sites are scaled to the budget (`fit_to_budget`).

    Observation: (sites + 3,): one-hot site; log of its parameters over those of the largest; the
    share of its components that hold 90 % of its energy; the action before. After the last
    step, zeros.

    Reward: 1 - errors / 100 of the plan at the last step, 0 before. The last step's `info` has
    the "trial".

    Args:
        problem: sites, ranges and budget.
        score: plan -> trial; an Evaluator of one plan: `lambda plan: evaluate([plan], "ppo")[0]`.
    """

    def __init__(self, problem: Problem, score: Callable[[Plan], Trial]) -> None:
        self.problem, self.score = problem, score
        self._centre = log_sizes_of(problem, energy_order(problem))
        self._features = _features(problem)
        self._size = len(self._features) + self._features.shape[1] + 1
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (self._size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._actions: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a plan. Nothing is random here."""
        super().reset(seed=seed)
        self._actions = []
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Choose the next site's size; the last site's step scores the plan."""
        self._actions.append(float(np.clip(action[0], -1.0, 1.0)))
        if len(self._actions) < len(self._centre):
            return self._observation(), 0.0, False, False, {}
        wishes = self._centre + REACH * np.array(self._actions)
        trial = self.score(fit_to_budget(self.problem, wishes))
        return self._observation(), hard(trial.score.errors, 0.0), True, False, {"trial": trial}

    def _observation(self) -> np.ndarray:
        observation = np.zeros(self._size, np.float32)
        site = len(self._actions)
        if site < len(self._centre):
            observation[site] = 1.0
            observation[len(self._centre) : -1] = self._features[site]
            observation[-1] = self._actions[-1] if self._actions else 0.0
        return observation


def _features(problem: Problem) -> np.ndarray:
    """(sites, 2), from 0 to 1: log parameters, and how much of the spectrum holds the energy."""
    largest = max(site.params for site in problem.sites)
    rows = []
    for site in problem.sites:
        energies = problem.energies[site.name]
        held = np.searchsorted(np.cumsum(energies) / energies.sum(), 0.9) + 1
        rows.append((np.log(site.params) / np.log(largest), held / len(energies)))
    return np.clip(np.array(rows), 0.0, 1.0)
