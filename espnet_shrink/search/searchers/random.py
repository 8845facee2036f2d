"""Random: every site's share drawn anew, evenly between the ends of its range in log parameters."""

from __future__ import annotations

import numpy as np

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget, log_ends
from espnet_shrink.search.settings import SearchSettings

BATCH = 8  # plans at a time, so that no worker is idle


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose random plans that meet the budget until the evaluations are spent."""
    generator = np.random.default_rng(settings.seed)
    low, high = log_ends(problem).T
    while True:  # until the evaluator ends it
        wishes = low + (high - low) * generator.random((BATCH, len(low)))
        evaluate([fit_to_budget(problem, each) for each in wishes], "random")
