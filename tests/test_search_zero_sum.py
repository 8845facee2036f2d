"""Zero sum: predicted changes of the loss are right, and components are dropped by the rule."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import make
from toy import problem

from espnet_shrink.compat.loss import check_loss, loss_of
from espnet_shrink.compat.text import Prompt
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.data.kaldi import Utterance
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.kinds import SiteKind
from espnet_shrink.plan import DENSE
from espnet_shrink.search.searchers import zero_sum as module
from espnet_shrink.search.searchers.zero_sum import zero_sum
from espnet_shrink.search.space import SearchSpace

# --- the prediction ---

ARCHITECTURES = {
    "rnn": {SiteKind.LSTM_INPUT, SiteKind.LSTM_RECURRENT, SiteKind.CELL_INPUT,
            SiteKind.CELL_RECURRENT, SiteKind.LINEAR},
    "rnn_gru": {SiteKind.GRU_INPUT, SiteKind.GRU_RECURRENT, SiteKind.GRU_CELL_INPUT,
                SiteKind.GRU_CELL_RECURRENT, SiteKind.EMBEDDING},
    "conformer": {SiteKind.POINTWISE_CONV},
    "transducer": set(),
    "asr_transducer": set(),
    "s2t": set(),
    "maskctc": set(),
}  # fmt: skip
MELS = 20  # of all of them
WORDS = ["<blank>", "<unk>", *(f"w{i}" for i in range(200)), "<sos/eos>"]  # a table worth a rank


def random_data(loaded):
    """Two utterances of noise with random texts."""
    generator = torch.Generator().manual_seed(0)
    first = [getattr(loaded.model, "sos", 0)]
    if getattr(loaded.model, "joint_network", None) is not None:
        first = [0]
    features = [torch.randn(n, MELS, generator=generator) for n in (60, 83)]
    names = [Utterance(f"noise{i}", "-", Path("-"), "-") for i in range(2)]
    return FeatureSet(names, features, [[3, 4, 2], [5, 3, 6, 3]], [0.6, 0.83],
                      prompts=[Prompt(first)] * 2)  # fmt: skip


def mean_loss(loaded, data):
    torch.manual_seed(0)
    np.random.seed(0)
    each = zip(data.features, data.tokens, data.prompts, strict=True)
    with torch.no_grad():
        return float(sum(loss_of(loaded, *one) for one in each) / len(data.features))


def test_every_kind_of_site_is_judged_by_one_of_them():
    assert set().union(*ARCHITECTURES.values()) == set(SiteKind)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_predicted_change_is_the_slope_of_the_loss(name, tmp_path):
    more = {"token_list": WORDS} if name == "rnn_gru" else {}
    loaded = make(name, tmp_path / "exp", changes=more)
    data = random_data(loaded)
    before = copy.deepcopy(loaded.model.state_dict())
    analysis = analyse(loaded, data, "whitened")
    changes, step = analysis.loss_changes, 0.01
    weights = dict(loaded.model.named_parameters())
    kinds = {site.kind for site in analysis.survey.sites if site.name in changes}
    assert ARCHITECTURES[name] <= kinds
    compared = 0
    for site in analysis.survey.sites[:: max(1, len(analysis.survey.sites) // 25)]:
        if site.name not in changes:
            continue
        parts = analysis.decompositions[site.name]
        for i in (int(np.abs(changes[site.name]).argmax()), site.full - 1):
            component = torch.outer(parts.U[:, i], parts.V[i]).view_as(weights[site.name])
            slopes = []
            for share in (step, -2 * step):
                with torch.no_grad():
                    weights[site.name].sub_(share * component)
                slopes.append(mean_loss(loaded, data))
            with torch.no_grad():
                weights[site.name].sub_(step * component)
            slope = (slopes[0] - slopes[1]) / (2 * step)
            assert changes[site.name][i] == pytest.approx(slope, rel=0.03, abs=0.01), site.name
            compared += abs(slope) > 0.1
    assert compared > 3
    for key, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=1e-4, atol=1e-5)


def test_a_loss_that_needs_more_than_speech_and_text_is_refused(tmp_path):
    loaded = make("st", tmp_path / "exp")
    with pytest.raises(ShrinkError, match="is of the task st, whose loss needs more"):
        check_loss(loaded)


# --- the rule ---


def of(changes, budget, ranges=None):
    """Sites of 10 x 10, 20 parameters a rank, ranks 1 to 4 unless `ranges` says otherwise."""
    names = [f"site{i}.weight" for i in range(len(changes))]
    task = problem([(10, 10)] * len(changes), 1.0, fixed=0)
    padded = {
        name: np.pad(np.array(own, float), (0, 10 - len(own)))
        for name, own in zip(names, changes, strict=True)
    }
    space = SearchSpace({n: (ranges or {}).get(n, (1, 4)) for n in names})
    return dataclasses.replace(task, space=space, budget=budget, loss_changes=lambda: padded)


WORKED = [[9.0, 4.0, -2.0, 1.0], [9.0, -3.0, 2.0, 0.5]]
# The sum is 0: 0.5 (site 1). 0.5: no negative one is offered, so 1 (site 0). 1.5: -2 (site 0).
# -0.5: 2 (site 1). 1.5: -3 (site 1). -1.5: 4 (site 0), as site 1 has but one left.
LEFT = [(4, 4), (4, 3), (3, 3), (2, 3), (2, 2), (2, 1), (1, 1)]


@pytest.mark.parametrize("dropped", range(7))
def test_components_go_in_the_order_that_keeps_the_sum_near_zero(dropped, monkeypatch):
    monkeypatch.setattr(module, "FLOOR", 0.0)
    task = of(WORKED, 160 - 20 * dropped)
    assert tuple(zero_sum(task).ranks.values()) == LEFT[dropped]


def test_a_dense_site_is_no_smaller_until_it_is_below_break_even():
    ranges = {"site0.weight": (1, DENSE), "site1.weight": (DENSE, DENSE)}
    changes = [[1.0] * 10, [-1.0] * 10]
    assert set(zero_sum(of(changes, 200, ranges)).ranks.values()) == {DENSE}
    for budget, rank in ((199, 4), (180, 4), (179, 3)):
        assert zero_sum(of(changes, budget, ranges)).ranks == {
            "site0.weight": rank, "site1.weight": DENSE
        }  # fmt: skip


def test_no_site_goes_far_below_the_uniform_plan():
    changes = [[0.0] * 10, [50.0] * 10]
    for budget, lowest in ((120, 2), (100, 1)):  # uniform has 3 and 3, then 2 and 2
        ranks = zero_sum(of(changes, budget)).ranks
        assert ranks["site0.weight"] == lowest and sum(ranks.values()) == budget // 20


def test_sites_that_the_loss_does_not_reach_are_named_and_judged_by_energy(capsys):
    task = of(WORKED, 60)
    judged = {"site1.weight": np.pad([9.0, -3.0, 2.0, 0.5], (0, 6))}
    plan = zero_sum(dataclasses.replace(task, loss_changes=lambda: judged))
    assert task.feasible(plan)
    assert (
        "judged by energy, as the loss does not reach it: site0.weight" in capsys.readouterr().out
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("compression", [1.2, 2.0, 5.0])
def test_the_budget_is_met_and_spent_but_for_a_step(compression, seed):
    shapes = [(23, 37), (53, 19), (17, 17), (41, 31), (29, 43), (10, 61)]
    task = problem(shapes, compression, seed)
    generator = np.random.default_rng(seed)
    changes = {s.name: generator.normal(0, 1, s.full) for s in task.sites}
    plan = zero_sum(dataclasses.replace(task, loss_changes=lambda: changes))
    plan.check(task.sites)
    assert 0 <= task.budget_params - task.params(plan) < max(map(sum, shapes))


# --- by the command line ---


def test_a_search_by_zero_sum(recipe, shrink):
    shrink("proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--out", "proxy", "--size", 6)
    Path("search.yaml").write_text("searcher: zero_sum\nevaluations: 1\nmin_rank: 1\n")
    command = ["search", "--exp", "exp/asr", "--data", "dump/raw/dev", "--proxy", "proxy",
               "--search_config", "search.yaml", "--target", "1.5x"]  # fmt: skip
    done = shrink(*command, "--out", "zero")
    assert done.status == 0, done.err
    assert "by zero_sum among 1 plans" in done.out
    plan = read_yaml("zero/plan.yaml")
    assert plan["searcher"] == "zero_sum"
    again = shrink(*command, "--out", "again", "--searcher", "zero_sum")
    assert again.status == 0 and read_yaml("again/plan.yaml")["ranks"] == plan["ranks"]
