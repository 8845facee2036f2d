"""Which weights are sites, and what is said of the others."""

import pytest
import torch
from torch import nn
from toy import Toy, Zoo, random_plan, toy

from espnet_shrink.methods.lowrank.build import factorise, fold
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import LEAST_EMBEDDING_SHARE, survey
from espnet_shrink.plan import Plan, describe


class MyLinear(nn.Linear):
    pass


class Odd(nn.Module):
    """Everything that cannot be factorised, beside one layer that can."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 5)
        self.tied = nn.Bilinear(5, 1, 12)
        self.conv_tied = nn.Conv1d(5, 12, 1)
        self.tied.weight = self.conv_tied.weight = nn.Parameter(torch.randn(12, 5, 1))
        self.sparse = nn.Embedding(12, 5, sparse=True)
        self.clipped = nn.Embedding(12, 5, max_norm=1.0)
        self.frontend = nn.ModuleDict({"upstream": nn.Linear(9, 9)})
        self.pos_bias_u = nn.Parameter(torch.ones(2, 4))
        self.positional_embedding = nn.Parameter(torch.ones(6, 8))
        self.tiny = nn.Linear(1, 30)
        self.attention = nn.MultiheadAttention(8, 2)
        self.mine = MyLinear(9, 9)
        self.bilinear = nn.Bilinear(3, 4, 5)
        self.conv = nn.Conv2d(2, 3, 3)
        self.padded = nn.Conv1d(4, 5, 1, padding=1)
        self.depthwise = nn.Conv1d(4, 4, 3, groups=4)
        self.grouped = nn.Conv1d(4, 6, 1, groups=2)
        self.transposed = nn.ConvTranspose1d(4, 6, 1)
        self.normed = nn.utils.weight_norm(nn.Conv1d(4, 6, 1))
        self.parametrised = nn.utils.parametrizations.weight_norm(nn.Linear(9, 9))
        self.rnn = nn.RNN(5, 6)
        self.projected = nn.LSTM(5, 6, proj_size=2)
        self.norm = nn.LayerNorm(7)
        self.scale = nn.Parameter(torch.ones(3, 4, 5))
        self.gain = nn.Parameter(torch.ones(()))
        self.good = nn.Linear(9, 8)


def reasons(model):
    return {entry.name: entry.reason for entry in survey(model).uncompressed}


@pytest.mark.parametrize("model", [Toy(), Odd(), Zoo()], ids=["toy", "odd", "zoo"])
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
        ("embed.weight", "embedding of less than 5%"),
        ("tied.weight", "no low-rank layer for Bilinear"),
        ("sparse.weight", "embedding with sparse gradients"),
        ("clipped.weight", "embedding with sparse gradients, max_norm"),
        ("frontend.upstream.weight", "part of the frontend: frontends are left alone"),
        ("pos_bias_u", "a bias of relative positions"),
        ("positional_embedding", "learned positions"),
        ("tiny.weight", "too small"),
        ("attention.in_proj_weight", "joint projection of torch's attention"),
        ("attention.out_proj.weight", "no low-rank layer for NonDynamicallyQuantizableLinear"),
        ("mine.weight", "no low-rank layer for MyLinear"),
        ("bilinear.weight", "no low-rank layer for Bilinear"),
        ("conv.weight", "convolution"),
        ("padded.weight", "convolution of kernel size above 1, or padded"),
        ("depthwise.weight", "depthwise convolution"),
        ("grouped.weight", "grouped convolution"),
        ("transposed.weight", "transposed convolution"),
        ("normed.weight_v", "part of a reparametrised weight"),
        ("parametrised.parametrizations.weight.original1", "part of a reparametrised weight"),
        ("rnn.weight_hh_l0", "RNN without gates"),
        ("projected.weight_ih_l0", "LSTM with a projection"),
        ("norm.weight", "a vector"),
        ("scale", "no low-rank layer for Odd"),
        ("gain", "a vector"),
        ("good.bias", "a vector"),
    ],
)
def test_what_is_no_site_says_why(name, reason):
    assert reasons(Odd())[name].startswith(reason)


def test_the_other_kinds_of_site_and_shared_weights_once():
    gru = [
        Site(f"gru.weight_{part}_l{layer}{suffix}", (21, width), f"gru_{kind}")
        for layer, inputs in ((0, 10), (1, 14))
        for suffix in ("", "_reverse")
        for part, width, kind in (("ih", inputs, "input"), ("hh", 7, "recurrent"))
    ]
    assert survey(Zoo()).sites == [
        Site("table.weight", (30, 12), "embedding"),
        Site("pointwise.weight", (10, 12), "pointwise_conv"),
        Site("plane.weight", (8, 3), "pointwise_conv"),
        *gru,
        Site("cell.weight_ih", (27, 14), "gru_cell_input"),
        Site("cell.weight_hh", (27, 9), "gru_cell_recurrent"),
        Site("left.weight", (9, 9), "linear"),
        Site("once.weight", (9, 9), "linear"),
        Site("encoder.weight", (11, 9), "linear"),  # a table, but multiplied too
    ]


def test_a_shared_weight_with_an_owner_that_cannot_be_factorised_is_named():
    model = nn.Module()
    model.first = nn.Linear(9, 9)
    model.second = MyLinear(9, 9)
    model.second.weight = model.first.weight
    assert survey(model).sites == []
    assert reasons(model)["first.weight"] == (
        "tied to second.weight: no low-rank layer for MyLinear"
    )


def test_a_weight_shared_with_the_frontend_is_left_alone():
    model = nn.ModuleDict({"first": nn.Linear(9, 9), "frontend": nn.Sequential(nn.Linear(9, 9))})
    model["frontend"][0].weight = model["first"].weight
    assert survey(model).sites == []
    model = nn.ModuleDict({"frontend_like": nn.Linear(9, 9)})
    assert [site.name for site in survey(model).sites] == ["frontend_like.weight"]


def test_an_embedding_is_a_site_from_its_share_of_the_parameters_on():
    table = nn.Embedding(10, 10)
    rest = round(100 / LEAST_EMBEDDING_SHARE) - 100
    for more, sites in ((0, ["table.weight"]), (1, [])):
        model = nn.ModuleDict({"table": table, "norm": nn.LayerNorm(rest + more, bias=False)})
        assert [site.name for site in survey(model).sites] == sites


def test_openai_whispers_linear_is_a_plain_linear_map():
    """Known by its qualified name: a Linear that casts its weights to the type of its input."""

    class Linear(nn.Linear):
        def forward(self, x):
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return nn.functional.linear(x, self.weight.to(x.dtype), bias)

    model = nn.ModuleDict({"query": Linear(9, 9)})
    assert survey(model).sites == []
    Linear.__module__, Linear.__qualname__ = "whisper.model", "Linear"
    (site,) = survey(model).sites
    assert site == Site("query.weight", (9, 9), "linear")
    plan = Plan({site.name: 3})
    x = torch.randn(2, 9)
    factorise(model, plan, factors_of(plan, decompose_sites(dict(model.named_parameters()),
                                                            [site], None)))  # fmt: skip
    small = model["query"]
    torch.testing.assert_close(small(x.bfloat16()).float(), small(x), rtol=0.05, atol=0.05)
    fold(model)
    assert type(model["query"]) is Linear and survey(model).sites == [site]


def test_what_stays_is_described_a_line_each_without_the_vectors():
    found = survey(Odd())
    lines = describe(found)
    assert "conv.weight (3x2x3x3, 54 params): " + reasons(Odd())["conv.weight"] in lines
    named = {line.split(" ")[0] for line in lines}
    matrices = {name for name, parameter in Odd().named_parameters() if parameter.dim() > 1}
    assert named == matrices - {site.name for site in found.sites}


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
