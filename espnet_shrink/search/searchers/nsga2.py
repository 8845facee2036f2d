"""NSGA-II (Deb et al., 2002), by Optuna: the whole front of errors and size, up to the budget."""

from __future__ import annotations

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget
from espnet_shrink.search.searchers.black_box import ask_log_sizes, optuna
from espnet_shrink.search.settings import SearchSettings

POPULATION = 20
SMALLEST = 0.5  # of the budget, above what the sites need at least


def least_evaluations(settings: SearchSettings, sites: int) -> int:
    """Those of the first population, which is random, and one that descends from it."""
    return POPULATION + 1


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose plans from half the budget to all of it until the evaluations are spent."""
    sampler = optuna().samplers.NSGAIISampler(seed=settings.seed, population_size=POPULATION)
    study = optuna().create_study(directions=["minimize", "minimize"], sampler=sampler)
    least = problem.fixed_params + problem.least
    while True:
        trials = [study.ask() for _ in range(POPULATION)]
        plans = []
        for trial in trials:
            share = trial.suggest_float("share", SMALLEST, 1.0)
            smaller = problem.of_params(least + int(share * (problem.budget_params - least)))
            plans.append(fit_to_budget(smaller, ask_log_sizes(trial, smaller)))
        for trial, found in zip(trials, evaluate(plans, "nsga2"), strict=True):
            study.tell(trial, [found.score.errors, found.params])
