"""CMA-ES that starts where REINFORCE does, from the best plan of the rules, with its spread."""

from __future__ import annotations

import numpy as np
from cmaes import CMA

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget, log_sizes_of
from espnet_shrink.search.searchers.reinforce import SPREAD, best_of_rules
from espnet_shrink.search.settings import SearchSettings


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """A searcher as run_search takes it."""
    centre = log_sizes_of(problem, best_of_rules(problem, evaluate))
    # Its generator takes 32 bits; 0 is not a seed to it but "none given".
    optimizer = CMA(np.zeros(len(centre)), SPREAD, seed=settings.seed % 2**31 + 1)
    while True:
        offsets = [optimizer.ask() for _ in range(optimizer.population_size)]
        plans = [fit_to_budget(problem, centre + offset) for offset in offsets]
        trials = evaluate(plans, "cma_es_from_rules")
        told = zip(offsets, (trial.score.errors for trial in trials), strict=True)
        optimizer.tell(list(told))
