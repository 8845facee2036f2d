"""Prices of plans against models that were really built."""

import pytest
import torch
from toy import random_plan, toy, utterance

from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.moments import collect
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import dense_plan
from espnet_shrink.plan.cost import Cost, CostModel


def numels(model):
    return {name: parameter.numel() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("seed", range(4))
def test_parameters_are_those_of_the_factorised_model(seed):
    model = toy()
    sites = survey(model).sites
    plan = random_plan(sites, seed)
    cost = CostModel(sites, numels(model), {}).cost(plan)
    parts = decompose_sites(dict(model.named_parameters()), sites, None)
    factorise(model, plan, factors_of(plan, parts))
    built = sum(parameter.numel() for parameter in model.parameters())
    assert cost.params == built
    assert cost.size_mib == pytest.approx(built * 4 / 1024 / 1024)


def test_dense_plan_costs_the_whole_model_with_its_embedding():
    model = toy()
    sites = survey(model).sites
    cost = CostModel(sites, numels(model), {}).cost(dense_plan(sites))
    assert cost == Cost(sum(numels(model).values()), cost.size_mib, 0)


def test_macs_are_weights_times_their_uses_per_second():
    model, (x, tokens) = toy(), utterance(20)
    sites = survey(model).sites
    uses = collect(model, sites, lambda: model(x, tokens)).uses
    audio_s = 0.5
    priced = CostModel(sites, numels(model), {name: n / audio_s for name, n in uses.items()})
    conv, first = 10 * 8 * 3, 2 * 4 * 7 * (10 + 7)
    second, proj = 2 * 4 * 7 * (14 + 7), 9 * 14
    cell, out = 4 * 8 * (15 + 8), 11 * 8
    # Every weight meets every frame once; biases and the look-up are no products.
    expected = 20 * (conv + first + second + proj + cell + out) / audio_s
    assert priced.cost(dense_plan(sites)).macs_per_audio_second == pytest.approx(expected)

    plan = dense_plan(sites)
    factored = type(plan)({**plan.ranks, "proj.weight": 2, "birnn.weight_hh_l1_reverse": 3})
    saved = 20 * (proj - 2 * (9 + 14) + 4 * 7 * 7 - 3 * (4 * 7 + 7)) / audio_s
    assert priced.cost(factored).macs_per_audio_second == pytest.approx(expected - saved)


def test_a_tied_matrix_is_priced_once_and_its_products_counted():
    model = torch.nn.Module()
    model.embed = torch.nn.Embedding(12, 5)
    model.out = torch.nn.Linear(5, 12, bias=False)
    model.out.weight = model.embed.weight
    x = torch.randn(1, 7, 5)
    sites = survey(model).sites
    uses = collect(model, sites, lambda: model.out(x)).uses
    cost = CostModel(sites, numels(model), uses).cost(dense_plan(sites))
    assert (cost.params, cost.macs_per_audio_second) == (60, 7 * 60)
