"""Budgets of bytes and of multiply-accumulates, beside that of parameters."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from toy import problem, random_plan, squared_distance

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import DENSE, Budget, CostModel, dense_plan
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.settings import SEARCHERS, SearchSettings

SHAPES = [(40, 90), (90, 70), (70, 50), (30, 30)]
IDLE = "site3.weight"  # never used: costs bytes, and no multiply-accumulates


def limited(size=1.0, macs=1.0, compression=1.0):
    """A problem that may have these shares of the dense model's MiB and MACs."""
    task = problem(SHAPES, compression)
    rates = {s.name: 2.0 + i for i, s in enumerate(task.sites) if s.name != IDLE}
    prices = CostModel(task.sites, task.cost_model.numels, rates)
    dense = prices.cost(dense_plan(task.sites))
    budget = Budget(task.budget_params, size * dense.size_mib, macs * dense.macs_per_audio_second)
    return dataclasses.replace(task, cost_model=prices, budget=budget)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize(("size", "macs"), [(0.5, 1.0), (1.0, 0.4), (0.7, 0.5)])
def test_every_searcher_keeps_all_limits(searcher, size, macs, tmp_path):
    if searcher in ("tpe", "cma_es", "nsga2"):
        pytest.importorskip("optuna")
    task = limited(size, macs)
    settings = SearchSettings(searcher=searcher, evaluations=60)
    result = run_search(
        task, lambda plans: (squared_distance(task, p) for p in plans), settings, tmp_path, True
    )
    cost = task.cost_model.cost(result.best.plan)
    assert cost.size_mib <= task.budget.size_mib * (1 + 1e-9)
    assert cost.macs_per_audio_second <= task.budget.macs_per_audio_second * (1 + 1e-9)
    # It spends what it may: of the tightest limit at least half.
    assert task.excess(result.best.plan) > -0.5


def test_what_a_limit_counts_is_what_the_cost_model_says():
    task = limited(0.6, 0.6)
    for plan in (dense_plan(task.sites), random_plan(task.sites, 0), random_plan(task.sites, 1)):
        cost = task.cost_model.cost(plan)
        size, macs = task.limits
        assert size.spent(plan, task.sites) == pytest.approx(cost.size_mib)
        assert macs.spent(plan, task.sites) == pytest.approx(cost.macs_per_audio_second)
    assert task.adds(task.sites[3], 1, DENSE)[1] == 0.0


@pytest.mark.parametrize(
    ("limits", "named"), [({"size": 1e-9}, "size_mib"), ({"macs": 1e-9}, "macs_per_audio_second")]
)
def test_a_limit_that_cannot_be_met_is_named(limits, named):
    with pytest.raises(ShrinkError, match=f"cannot be met: .* raise {named}$"):
        limited(**limits)


def test_a_search_within_bytes_and_macs_by_the_command_line(recipe, shrink):
    shrink("proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--out", "proxy", "--size", 6)
    full = sum(v.numel() for v in torch.load("exp/asr/valid.acc.ave.pth").values())
    size = 0.8 * 4 * full / 2**20
    settings = {"searcher": "energy_order", "evaluations": 1, "min_rank": 1, "finalists": 1}
    command = ["search", "--exp", "exp/asr", "--data", "dump/raw/dev", "--proxy", "proxy",
               "--search_config", "search.yaml"]  # fmt: skip
    Path("search.yaml").write_text(yaml.safe_dump({**settings, "size_mib": size}))
    done = shrink(*command, "--out", "small")
    assert done.status == 0, done.err
    plan = read_yaml("small/plan.yaml")
    assert 4 * plan["params"] / 2**20 <= size
    Path("search.yaml").write_text(yaml.safe_dump({**settings, "size_mib": 1e-6}))
    done = shrink(*command, "--out", "none")
    assert done.status == 2 and "raise size_mib" in done.err and not Path("none").exists()
