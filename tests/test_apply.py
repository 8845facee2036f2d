"""A plan written by hand, put into a model by the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import tree

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.plan import DENSE

RANKS = {"encoder.enc.0.birnn0.weight_ih_l0": 3, "ctc.ctc_lo.weight": 2}


@pytest.fixture
def plan(recipe):
    """plan.yaml of two sites."""
    Path("plan.yaml").write_text(yaml.safe_dump({"ranks": RANKS}))
    return "plan.yaml"


@pytest.mark.parametrize("data", [[], ["--data", "dump/raw/dev"]])
def test_named_sites_get_their_rank_and_all_others_stay_dense(baseline, plan, shrink, data):
    ended = shrink("apply", "exp/asr", "--plan", plan, "--out", "hand", *data)
    assert ended.status == 0, ended.err
    made = load_model(*find_model("hand"))
    sites = survey(baseline.model).sites
    assert plan_of(made.model).ranks == {s.name: RANKS.get(s.name, DENSE) for s in sites}
    assert "model in hand: 1." in ended.out and "2 matrices factorised" in ended.out
    weights, state = dict(baseline.model.named_parameters()), made.model.state_dict()
    for name, weight in weights.items():
        if name in state:  # not factorised
            assert torch.equal(state[name], weight)
    if not data:  # the plain SVD is the best that the rank can do (Eckart-Young)
        weight = weights["ctc.ctc_lo.weight"].detach()
        head = made.model.ctc.ctc_lo
        left = torch.linalg.svdvals(weight)[RANKS["ctc.ctc_lo.weight"] :]
        lost = weight - head.to_dense().weight.detach()
        assert torch.linalg.norm(lost) == pytest.approx(float(torch.linalg.norm(left)), rel=1e-3)
    else:
        dev = extract(baseline, "dump/raw/dev")
        before, after = Scorer(baseline, dev).score(), Scorer(made, dev).score()
        assert f"greedy: {before} -> {after} on dump/raw/dev" in ended.out
    files = tree(Path("hand"))
    assert shrink("apply", "exp/asr", "--plan", plan, "--out", "hand", *data).status == 0
    assert tree(Path("hand")) == files  # again, nothing is written


@pytest.mark.parametrize(
    ("ranks", "named"),
    [
        ({"encoder.nowhere.weight": 3}, "names encoder.nowhere.weight, which is no site"),
        ({"ctc.ctc_lo.weight": 0}, "rank 0 of ctc.ctc_lo.weight is out of range"),
        ({"ctc.ctc_lo.weight": 999}, "rank 999 of ctc.ctc_lo.weight is out of range"),
        ({"ctc.ctc_lo.weight": "low"}, "rank 'low' of ctc.ctc_lo.weight is out of range"),
        ({"ctc.ctc_lo.weight": 2.0}, "rank 2.0 of ctc.ctc_lo.weight is out of range"),
        ({3: 3}, "names 3, which is no site"),
        ({}, "plan.yaml holds no plan"),
        ([], "plan.yaml holds no plan"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_nothing_written(recipe, shrink, ranks, named):
    Path("plan.yaml").write_text(yaml.safe_dump({"ranks": ranks}))
    ended = shrink("apply", "exp/asr", "--plan", "plan.yaml", "--out", "hand")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1 and named in ended.err
    assert not Path("hand").exists()


def test_another_plan_does_not_go_into_the_same_folder(recipe, plan, shrink):
    assert shrink("apply", "exp/asr", "--plan", plan, "--out", "hand").status == 0
    before = tree(Path("hand"))
    Path(plan).write_text(yaml.safe_dump({"ranks": {**RANKS, "ctc.ctc_lo.weight": 1}}))
    ended = shrink("apply", "exp/asr", "--plan", plan, "--out", "hand")
    assert ended.status == 2 and "hand holds a run with other settings (plan was" in ended.err
    assert tree(Path("hand")) == before


def test_a_packed_model_is_factorised_too(packed, shrink):
    Path("plan.yaml").write_text(yaml.safe_dump({"ranks": RANKS}))
    model = packed / "model.zip"
    ended = shrink("apply", model, "--plan", "plan.yaml", "--out", "hand")
    assert ended.status == 0, ended.err
    assert plan_of(load_model(*find_model("hand")).model).factored == RANKS
    assert read_yaml("hand/config.yaml")["adapter"] == "espnet_shrink"
