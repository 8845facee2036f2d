"""Which weights are sites, and what is said of the others."""

import pytest
import torch
from torch import nn
from toy import Toy, random_plan, toy

from espnet_shrink.lowrank.build import factorise, fold
from espnet_shrink.lowrank.decompose import decompose_sites, factors_of
from espnet_shrink.lowrank.sites import survey
from espnet_shrink.plan import Site


class MyLinear(nn.Linear):
    pass


class Odd(nn.Module):
    """Everything that cannot be factorised, beside one layer that can."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 5)
        self.tied = nn.Linear(5, 12)
        self.tied.weight = self.embed.weight
        self.tiny = nn.Linear(1, 30)
        self.attention = nn.MultiheadAttention(8, 2)
        self.mine = MyLinear(9, 9)
        self.bilinear = nn.Bilinear(3, 4, 5)
        self.conv = nn.Conv2d(2, 3, 3)
        self.gru = nn.GRU(5, 6)
        self.gru_cell = nn.GRUCell(5, 6)
        self.projected = nn.LSTM(5, 6, proj_size=2)
        self.norm = nn.LayerNorm(7)
        self.scale = nn.Parameter(torch.ones(3, 4, 5))
        self.gain = nn.Parameter(torch.ones(()))
        self.good = nn.Linear(9, 8)


def reasons(model):
    return {entry.name: entry.reason for entry in survey(model).uncompressed}


@pytest.mark.parametrize("model", [Toy(), Odd()], ids=["toy", "odd"])
def test_every_parameter_is_either_a_site_or_named_with_a_reason(model):
    found = survey(model)
    named = [site.name for site in found.sites] + [entry.name for entry in found.uncompressed]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    assert all(entry.reason for entry in found.uncompressed)
    total = sum(site.params for site in found.sites) + sum(e.params for e in found.uncompressed)
    assert total == sum(parameter.numel() for parameter in model.parameters())


def test_sites_come_in_model_order_with_shape_and_kind():
    lstm = [
        Site(f"birnn.weight_{part}_l{layer}{suffix}", (28, width), f"lstm_{kind}")
        for layer, inputs in ((0, 10), (1, 14))
        for suffix in ("", "_reverse")
        for part, width, kind in (("ih", inputs, "input"), ("hh", 7, "recurrent"))
    ]
    cell = [
        Site("cell.weight_ih", (32, 15), "cell_input"),
        Site("cell.weight_hh", (32, 8), "cell_recurrent"),
    ]
    rest = [Site("out.weight", (11, 8), "linear")]
    assert survey(Toy()).sites == [*lstm, Site("proj.weight", (9, 14), "linear"), *cell, *rest]


def test_only_the_plain_layer_of_the_odd_model_is_a_site():
    assert [site.name for site in survey(Odd()).sites] == ["good.weight"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("embed.weight", "tied to tied.weight"),
        ("tiny.weight", "too small"),
        ("attention.in_proj_weight", "no low-rank layer for MultiheadAttention"),
        ("attention.out_proj.weight", "no low-rank layer for NonDynamicallyQuantizableLinear"),
        ("mine.weight", "no low-rank layer for MyLinear"),
        ("bilinear.weight", "no low-rank layer for Bilinear"),
        ("conv.weight", "convolution"),
        ("gru.weight_hh_l0", "GRU"),
        ("gru_cell.weight_ih", "GRU"),
        ("projected.weight_ih_l0", "LSTM with a projection"),
        ("norm.weight", "a vector"),
        ("scale", "no low-rank layer for Odd"),
        ("gain", "a vector"),
        ("good.bias", "a vector"),
    ],
)
def test_what_is_no_site_says_why(name, reason):
    assert reasons(Odd())[name].startswith(reason)


def test_a_module_used_in_two_places_is_tied():
    model = nn.Module()
    model.first = nn.Linear(9, 9)
    model.second = model.first
    assert survey(model).sites == []
    assert reasons(model)["first.weight"] == "tied to second.weight"


def test_factors_are_no_sites_and_folding_brings_the_sites_back():
    model = toy()
    sites = survey(model).sites
    plan = random_plan(sites, seed=1)
    assert plan.factored.keys() >= {"proj.weight", "cell.weight_ih"}
    parts = decompose_sites(dict(model.named_parameters()), sites, None)
    factorise(model, plan, factors_of(plan, parts))
    assert not {"proj.U.weight", "proj.V.weight"} & {site.name for site in survey(model).sites}
    for name in ("proj.U.weight", "proj.V.weight", "cell.weight_ih_U"):
        assert reasons(model)[name].startswith("in a low-rank layer already")
    fold(model)
    assert survey(model).sites == sites
