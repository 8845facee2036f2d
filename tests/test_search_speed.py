"""A limit of time: every searcher keeps it, and what no rank makes faster stays dense."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import COMMANDS
from test_search_rules import SHAPES
from toy import problem, squared_distance

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.latency import Curve, Latency
from espnet_shrink.plan import DENSE, Plan, dense_plan
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import fit_to_budget
from espnet_shrink.search.searchers.reinforce import RULES
from espnet_shrink.search.settings import SEARCHERS, SearchSettings
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.search.speed import SpeedLimit, only_faster

NEVER = "site2.weight"  # no rank of it is faster
REST_RTF = 0.5


class Formula:
    """Times by a rule: a start and a price for each parameter; `NEVER`'s dense form is free."""

    def curve(self, site, calls):
        (count,) = calls.values()
        ranks = range(1, site.largest_useful_rank + 1)
        if site.name == NEVER:
            return Curve(0.0, ranks, [1e-3 * count * rank for rank in ranks])
        return Curve(
            1e-6 * count * site.params, ranks,
            [count * (1e-6 * site.params_at(rank) + 1e-4) for rank in ranks],
        )  # fmt: skip


def limited(share, compression=1.0, seed=0):
    """A problem whose sites may take `share` of their dense time."""
    task = problem(SHAPES, compression, seed)
    prices = CostModel(task.sites, task.cost_model.numels, {})
    calls = {site.name: {1: 10.0} for site in task.sites}
    latency = Latency(prices, calls, Formula(), REST_RTF)
    dense = latency.rtf(dense_plan(task.sites)) - REST_RTF
    speed = SpeedLimit(latency, REST_RTF + share * dense)
    return dataclasses.replace(task, space=only_faster(task.space, speed), speed=speed)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("compression", [1.0, 3.0])
def test_every_searcher_keeps_the_limit(searcher, compression, tmp_path):
    if searcher in ("tpe", "cma_es", "nsga2"):
        pytest.importorskip("optuna")
    task = limited(0.4, compression)
    settings = SearchSettings(searcher=searcher, evaluations=60)
    result = run_search(
        task, lambda plans: (squared_distance(task, p) for p in plans), settings, tmp_path, True
    )
    best = result.best.plan
    assert task.speed.latency.rtf(best) <= task.speed.most_rtf
    assert task.params(best) <= task.budget_params and best.ranks[NEVER] == DENSE
    assert all(task.feasible(t.plan) for t in result.within_budget)
    scans = {t.plan.hash for t in result.trials} - {t.plan.hash for t in result.within_budget}
    assert not scans or searcher in ("sensitivity", "knapsack")


@pytest.mark.parametrize("compression", [1.0, 2.0, 3.0])
def test_every_wish_becomes_a_plan_within_both_limits(compression):
    """Also where a site whose rank is past its break-even of time becomes dense, and so larger."""
    task = limited(0.4, compression)
    generator = np.random.default_rng(0)
    for wishes in generator.normal(5.0, 3.0, size=(300, len(task.sites))):
        assert task.feasible(fit_to_budget(task, wishes))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_spends_the_time_it_has(rule):
    """What is left is less than the dearest step: a rank, or the jump to dense."""
    task = limited(0.5)
    plan = RULES[rule](task)
    (left,) = task.spare(plan)
    steps = [float(task.adds(s, task.largest_rank(s), DENSE)[0]) for s in task.sites
             if s.name != NEVER]  # fmt: skip
    assert 0 <= left < max(steps) + 10 * 1e-6 * max(sum(shape) for shape in SHAPES)


def test_wishes_become_plans_at_the_limit():
    task = limited(0.5)
    for seed in range(5):
        wishes = np.random.default_rng(seed).normal(0, 1, len(SHAPES))
        plan = fit_to_budget(task, wishes)
        assert 0 <= task.spare(plan)[0] < 0.2 * task.speed.most_rtf


def test_a_site_that_no_rank_makes_faster_stays_dense_and_the_others_keep_their_ranges():
    task = limited(0.5)
    loose = problem(SHAPES, 1.0)
    assert task.space.ranges[NEVER] == (DENSE, DENSE)
    assert all(task.space.ranges[n] == r for n, r in loose.space.ranges.items() if n != NEVER)
    ends = only_faster(SearchSpace({s.name: (DENSE, DENSE) for s in task.sites}), task.speed)
    assert set(ends.ranges.values()) == {(DENSE, DENSE)}


def test_no_rank_between_the_two_break_evens():
    task = limited(0.9)
    for seed in range(10):
        wishes = np.random.default_rng(seed).normal(0, 2, len(SHAPES))
        for site in task.sites:
            rank = fit_to_budget(task, wishes).ranks[site.name]
            assert rank == DENSE or rank <= task.speed.break_evens[site.name]


def test_a_limit_that_cannot_be_met_says_what_can():
    task = limited(0.5)
    for rtf in (REST_RTF, 0.9 * REST_RTF):
        with pytest.raises(ShrinkError, match="cannot be met: 0.5.* is the least .*0.5000 of it"):
            dataclasses.replace(task, speed=SpeedLimit(task.speed.latency, rtf))


def test_the_excess_is_the_larger_of_the_two():
    task = limited(0.5, compression=2.0)
    dense = dense_plan(task.sites)
    assert task.excess(dense) == pytest.approx(task.params(dense) / task.budget_params - 1)
    slow = limited(0.5)
    assert slow.params(dense) == slow.budget_params
    assert slow.excess(dense) == slow.speed.latency.rtf(dense) / slow.speed.most_rtf - 1 > 0
    least = Plan({s.name: task.range(s)[0] for s in task.sites})
    assert task.excess(least) < 0


# --- by the commands ---


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_search_within_a_real_time_factor(finished, shrink):
    command = ["search", "--exp", "exp/asr", "--proxy", "small/proxy", "--data", "dump/raw/dev",
               "--search_config", "search.yaml"]  # fmt: skip
    refused = shrink(*command, "--out", "none", "--rtf", "1e-9")
    assert refused.status == 2 and "a real-time factor of 1e-09 cannot be met" in refused.err
    assert not Path("none").exists()
    rtf = 1.0
    done = shrink(*command, "--out", "fast", "--rtf", rtf)
    assert done.status == 0 and "on this machine" in done.out
    assert read_yaml(Path("fast/plan.yaml"))["rtf"] <= rtf
    again = shrink(*command, "--out", "fast", "--rtf", rtf)
    assert again.status == 0 and again.out == done.out


@pytest.mark.parametrize("rtf", ["0", "-1", "nan"])
def test_a_bad_real_time_factor_is_refused(finished, shrink, rtf):
    command = ["search", "--exp", "exp/asr", *COMMANDS["search"], "--out", "none", "--rtf", rtf]
    refused = shrink(*command)
    assert refused.status == 2 and "rtf must be above 0" in refused.err
    assert not Path("none").exists()


def test_no_limit_is_the_default():
    assert SearchSettings().rtf == math.inf


def test_compress_refuses_an_impossible_time_before_it_chooses_a_proxy_set(recipe, shrink):
    Path("search.yaml").write_text("rtf: 1.0e-9\nevaluations: 8\nsearcher: uniform\nmin_rank: 1\n")
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--target", "1.2x",
                  "--no-retrain", "--search_config", "search.yaml", "--out", "out")  # fmt: skip
    assert done.status == 2 and done.err.count("\n") == 1
    assert "cannot be met" in done.err and not Path("out/proxy").exists()
