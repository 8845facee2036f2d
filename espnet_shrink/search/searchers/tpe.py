"""TPE, the tree-structured Parzen estimator (Bergstra et al., NIPS 2011), by Optuna."""

from __future__ import annotations

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.black_box import minimise, optuna
from espnet_shrink.search.settings import SearchSettings

START = 10  # random plans
BATCH = 8  # plans at a time; what is not scored yet is taken for bad, so that they differ


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of random plans that the sampler starts with, and one of its own."""
    return START + 1


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose plans at the budget until the evaluations are spent."""
    sampler = optuna().samplers.TPESampler(
        seed=settings.seed, multivariate=True, n_startup_trials=START, constant_liar=True
    )
    minimise(problem, evaluate, sampler, "tpe", START, BATCH)
