"""CMA-ES (Hansen & Ostermeier, 2001), by Optuna."""

from __future__ import annotations

import math

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.black_box import minimise, optuna
from espnet_shrink.search.settings import SearchSettings

START = 1  # random plans


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of the start and of one population, and one after it."""
    return START + population(sites) + 1


def population(sites: int) -> int:
    """Optuna's own choice."""
    return 4 + math.floor(3 * math.log(max(1, sites)))


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose plans at the budget until the evaluations are spent."""
    sampler = optuna().samplers.CmaEsSampler(seed=settings.seed, n_startup_trials=START)
    minimise(problem, evaluate, sampler, "cma_es", START, population(len(problem.sites)))
