"""The search space that a scan leaves, and ranks in multiples."""

import dataclasses
import math

import numpy as np
import pytest
from test_search_rules import SHAPES
from test_search_scan import additive, measured
from toy import problem, squared_distance

from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import DENSE
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.narrow import narrowed, share_left
from espnet_shrink.search.problem import fit_to_budget
from espnet_shrink.search.settings import SEARCHERS, SearchSettings

SMALL = [(9, 7), (7, 9), (8, 8)]


@pytest.mark.parametrize("limit", [0.5, 2.0, 5.0])
def test_ranges_start_where_a_site_alone_loses_no_more_than_the_limit(limit, tmp_path):
    task = problem(SMALL, 1.05)
    errors = additive(task, 0)
    found, _ = measured(task, errors, 60, tmp_path)  # every rank
    smaller = narrowed(task, found, limit)
    for site in task.sites:
        low, high = smaller.range(site)
        losses = dict(zip(found.ranks[site.name], found.errors[site.name], strict=True))
        whole = losses[DENSE]
        assert losses[low] - whole <= limit
        assert all(losses[r] - whole > limit for r in losses if r != DENSE and r < low)
        assert high == DENSE  # errors fall to the end


def test_ranges_end_where_more_rank_brings_nothing(tmp_path):
    task = problem(SMALL, 1.2)
    enough = {site.name: rank for site, rank in zip(task.sites, (2, 3, DENSE), strict=True)}

    def errors(plan):
        sizes = {s.name: s.params_at for s in task.sites}
        return float(sum(sizes[n](rank) < sizes[n](enough[n]) for n, rank in plan.ranks.items()))

    found, _ = measured(task, errors, 60, tmp_path)
    assert {n: r[1] for n, r in narrowed(task, found, 9.0).space.ranges.items()} == enough


def test_a_limit_that_no_plan_within_the_budget_keeps_is_raised(tmp_path):
    task = problem(SMALL, 2.5)
    found, _ = measured(task, additive(task, 1), 60, tmp_path)
    strict = narrowed(task, found, 0.0)
    assert 0 <= strict.site_budget - strict.least
    loose = narrowed(task, found, math.inf)
    assert all(loose.range(s)[0] == task.range(s)[0] for s in task.sites)
    assert share_left(task, strict) < share_left(task, loose) == share_left(task, task) == 1.0


@pytest.mark.parametrize("searcher", ["reinforce", "random", "tpe", "knapsack", "uniform"])
def test_after_the_scan_no_plan_leaves_the_ranges(searcher, tmp_path, capsys):
    if searcher == "tpe":
        pytest.importorskip("optuna")
    task = problem(SHAPES, 2.0)
    errors = additive(task, 2)
    settings = SearchSettings(searcher=searcher, evaluations=120, site_limit=1.0)
    result = run_search(
        task, lambda plans: (Score(errors(p), errors(p)) for p in plans), settings, tmp_path, True
    )
    found, _ = measured(task, errors, int(0.3 * 120), tmp_path / "again")
    smaller = narrowed(task, found, 1.0)
    assert share_left(task, smaller) < 0.9
    whole = [t for t in result.trials if len(t.plan.factored) > 1]
    assert whole
    for trial in whole:
        for site in task.sites:
            low, high = map(site.params_at, smaller.range(site))
            assert low <= site.params_at(trial.plan.ranks[site.name]) <= high
    assert "of the sites' ranks are left to search" in capsys.readouterr().out


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_ranks_are_multiples_but_for_the_ends_of_ranges(searcher, tmp_path):
    if searcher in ("tpe", "cma_es", "nsga2"):
        pytest.importorskip("optuna")
    task = dataclasses.replace(problem(SHAPES, 2.0, min_rank=3), multiple=4)
    settings = SearchSettings(searcher=searcher, evaluations=40, rank_multiple=4)
    result = run_search(
        task, lambda plans: (squared_distance(task, p) for p in plans), settings, tmp_path, True
    )
    for trial in result.trials:
        for site in task.sites:
            rank = trial.plan.ranks[site.name]
            assert rank in (DENSE, 3) or rank % 4 == 0, (trial.source, site)
    assert task.feasible(result.best.plan)


def test_wishes_in_multiples_leave_less_than_a_step_of_every_site():
    task = dataclasses.replace(problem(SHAPES, 3.0), multiple=4)
    for seed in range(5):
        plan = fit_to_budget(task, np.random.default_rng(seed).normal(0, 0.3, len(SHAPES)))
        left = task.budget_params - task.params(plan)
        assert 0 <= left < max(4 * sum(shape) for shape in SHAPES)
