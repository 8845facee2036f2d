"""What the searchers from Optuna share: plans as vectors of real numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from espnet_shrink.errors import ShrinkError
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget, log_ends


def optuna() -> Any:
    """The package, quiet.

    Raises:
        ShrinkError: it, or what its samplers need, is not installed.
    """
    try:
        import cmaes  # noqa: F401
        import optuna
    except ImportError as error:
        raise ShrinkError(
            f"this searcher needs {error.name}: pip install 'espnet_shrink[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def ask_log_sizes(trial: Any, problem: Problem) -> np.ndarray:
    """Let a trial choose log parameters for every site, (sites,), between the ends of its range."""
    low, high = log_ends(problem).T
    # Called by number: the samplers' own sorting of names must not depend on the model.
    positions = [trial.suggest_float(f"{i:04}", 0.0, 1.0) for i in range(len(low))]
    return low + (high - low) * np.array(positions)


def minimise(
    problem: Problem, evaluate: Evaluator, sampler: Any, source: str, start: int, batch: int
) -> None:
    """Ask `sampler` for plans at the budget, and tell it their errors, until they are spent.

    Args:
        start: plans that it is asked for at first.
        batch: plans that it is asked for at a time afterwards, so that no worker is idle.
    """
    study, count = optuna().create_study(sampler=sampler), start
    while True:
        trials = [study.ask() for _ in range(count)]
        plans = [fit_to_budget(problem, ask_log_sizes(trial, problem)) for trial in trials]
        for trial, found in zip(trials, evaluate(plans, source), strict=True):
            study.tell(trial, found.score.errors)
        count = batch
