"""Searchers that measure every site alone: the scan, the integer programme, the threshold."""

import itertools

import numpy as np
import pytest
from toy import problem
from tqdm import tqdm

from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.searchers.knapsack import knapsack
from espnet_shrink.search.searchers.scan import scan
from espnet_shrink.search.searchers.sensitivity import sensitivity

SHAPES = [(9, 7), (7, 9), (8, 8)]


def additive(task, seed):
    """Errors of a plan, in percent: a falling function of every site's share, summed."""
    generator = np.random.default_rng(seed)
    weights = {site.name: (generator.uniform(1, 9), generator.uniform(1, 6)) for site in task.sites}

    def errors(plan):
        return float(
            sum(
                weights[s.name][0] * np.exp(-weights[s.name][1] * s.params_at(rank) / s.params)
                for s, rank in ((s, plan.ranks[s.name]) for s in task.sites)
            )
        )

    return errors


def measured(task, errors, evaluations, tmp_path):
    def score_all(plans):
        return [Score(errors(plan), errors(plan)) for plan in plans]

    with tqdm(disable=True) as bar:
        evaluate = Evaluator(task, score_all, evaluations, tmp_path, bar)
        return scan(task, evaluate, evaluations, "scan"), evaluate


def ranks_of(site):
    return [*range(1, site.largest_useful_rank + 1), DENSE]


def test_a_scan_measures_each_site_alone_up_to_its_evaluations(tmp_path):
    task = problem(SHAPES, 1.6)
    errors = additive(task, 0)
    found, evaluate = measured(task, errors, 13, tmp_path)
    assert len(evaluate.result.trials) <= 13
    for trial in evaluate.result.trials:
        assert len(trial.plan.factored) <= 1
    dense = {site.name: DENSE for site in task.sites}
    for site in task.sites:
        ranks, values = found.ranks[site.name], found.errors[site.name]
        assert ranks[0] == 1 and ranks[-1] == DENSE
        wanted = [errors(Plan({**dense, site.name: rank})) for rank in ranks]
        assert values == pytest.approx(wanted)


def test_a_rank_counts_as_bad_as_any_above_it(tmp_path):
    task = problem(SHAPES, 1.6)

    def noisy(plan):
        return 5.0 if plan.ranks["site0.weight"] == 3 else 1.0

    found, _ = measured(task, noisy, 40, tmp_path)
    by_rank = dict(zip(found.ranks["site0.weight"], found.errors["site0.weight"], strict=True))
    assert by_rank[1] == by_rank[2] == by_rank[3] == 5.0 and by_rank[DENSE] == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("compression", [1.2, 1.6, 2.3])
def test_the_knapsack_plan_is_the_best_of_all_where_errors_add_up(tmp_path, seed, compression):
    task = problem(SHAPES, compression, fixed=0)
    errors = additive(task, seed)
    found, _ = measured(task, errors, 60, tmp_path)  # every rank
    plan = knapsack(task, found)
    names = [site.name for site in task.sites]
    plans = (
        Plan(dict(zip(names, ranks, strict=True)))
        for ranks in itertools.product(*map(ranks_of, task.sites))
    )
    best = min(errors(plan) for plan in plans if task.feasible(plan))
    assert task.feasible(plan)
    assert errors(plan) == pytest.approx(best, rel=1e-3)


def test_the_threshold_takes_no_more_from_a_site_than_it_says(tmp_path):
    task = problem(SHAPES, 1.6)
    errors = additive(task, 1)
    found, _ = measured(task, errors, 60, tmp_path)
    plan = sensitivity(task, found)
    assert task.feasible(plan)
    losses = {}
    for site in task.sites:
        by_rank = dict(zip(found.ranks[site.name], found.errors[site.name], strict=True))
        losses[site.name] = by_rank[plan.ranks[site.name]]
    # Giving any site a rank less costs more than what the worst site loses now, but for rounding.
    for site in task.sites:
        rank = plan.ranks[site.name]
        fewer = site.largest_useful_rank if rank == DENSE else rank - 2
        if fewer >= 1:
            index = found.ranks[site.name].index(fewer)
            assert found.errors[site.name][index] > max(losses.values()) * 0.999


def test_a_site_whose_range_is_one_rank_is_left_at_it(tmp_path):
    from espnet_shrink.search.problem import Problem
    from espnet_shrink.search.space import SearchSpace

    task = problem(SHAPES, 1.6)
    ranges = {**task.space.ranges, "site1.weight": (DENSE, DENSE), "site2.weight": (2, 2)}
    task = Problem(task.cost_model, SearchSpace(ranges), task.budget_params, task.energies)
    found, _ = measured(task, additive(task, 2), 60, tmp_path)
    for plan in (knapsack(task, found), sensitivity(task, found)):
        assert plan.ranks["site1.weight"] == DENSE and plan.ranks["site2.weight"] == 2
