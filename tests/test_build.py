"""Plans put into models, folded back, and rebuilt from a config."""

import copy

import pytest
import torch
from toy import Zoo, close, random_plan, toy, utterance, zoo

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import (
    LowRankConv,
    LowRankEmbedding,
    LowRankGRU,
    LowRankGRUCell,
    LowRankLinear,
    LowRankLSTM,
    LowRankLSTMCell,
)
from espnet_shrink.methods.adapter import adapter_conf, build_from_conf
from espnet_shrink.methods.lowrank.build import factorise, fold, plan_of
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import DENSE, Plan, dense_plan


def parts_of(model):
    return decompose_sites(dict(model.named_parameters()), survey(model).sites, None)


def factorised(plan, seed=0):
    model = toy(seed)
    factorise(model, plan, factors_of(plan, parts_of(model)))
    return model


def some_plan(seed=0):
    return random_plan(survey(toy()).sites, seed)


@pytest.mark.parametrize("seed", range(4))
def test_factorised_and_folded_equal_the_dense_model_with_products(seed):
    plan, (x, tokens) = some_plan(seed), utterance(9)
    expected = toy()
    parts = parts_of(expected)
    for name, rank in plan.factored.items():
        expected.get_parameter(name).data.copy_(parts[name].product(rank))
    model = factorised(plan)
    with torch.no_grad():
        wanted = expected(x, tokens)
        close(model(x, tokens), wanted)
        fold(model)
        close(model(x, tokens), wanted)
    assert model.state_dict().keys() == expected.state_dict().keys()
    close(dict(model.state_dict()), dict(expected.state_dict()))


def test_layers_become_their_low_rank_twins_and_keep_the_mode():
    ranks = {"birnn.weight_hh_l1": 2, "proj.weight": 3, "cell.weight_ih": 4}
    plan = Plan({**dense_plan(survey(toy()).sites).ranks, **ranks})
    model = factorised(plan)
    assert type(model.birnn) is LowRankLSTM and model.birnn.ranks == {"weight_hh_l1": 2}
    assert type(model.proj) is LowRankLinear and model.proj.rank == 3
    assert type(model.cell) is LowRankLSTMCell and model.cell.ranks == {"weight_ih": 4}
    assert type(model.out) is torch.nn.Linear
    assert not any(module.training for module in model.modules())


def test_state_dict_names_and_shapes_follow_the_plan():
    plan = some_plan(1)
    dense, model = toy().state_dict(), factorised(plan)
    wanted = {}
    for name, tensor in dense.items():
        if name not in plan.factored:
            # The bias of a factored Linear belongs to its second factor.
            owner, _, last = name.rpartition(".")
            moved = last == "bias" and f"{owner}.weight" in plan.factored
            wanted[f"{owner}.U.bias" if moved else name] = tuple(tensor.shape)
            continue
        rank, (rows, columns) = plan.factored[name], tensor.shape
        linear = name.removesuffix(".weight") if name.endswith(".weight") else None
        wanted[f"{linear}.U.weight" if linear else f"{name}_U"] = (rows, rank)
        wanted[f"{linear}.V.weight" if linear else f"{name}_V"] = (rank, columns)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == wanted


def test_a_dense_plan_changes_nothing():
    model = toy()
    before = copy.deepcopy(model.state_dict())
    factorise(model, dense_plan(survey(model).sites), {})
    assert model.state_dict().keys() == before.keys()
    close(dict(model.state_dict()), dict(before), 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_model_built_from_its_config_loads_the_factored_state_strictly(seed):
    plan, (x, tokens) = some_plan(seed), utterance(7)
    trained = factorised(plan)
    fresh = toy(seed=99)
    build_from_conf(fresh, adapter_conf(plan, "0123"))
    fresh.load_state_dict(trained.state_dict(), strict=True)
    with torch.no_grad():
        close(fresh(x, tokens), trained(x, tokens), 0)


def test_the_config_holds_the_whole_plan():
    plan = some_plan()
    assert adapter_conf(plan, "0123") == {"base_hash": "0123", "ranks": plan.ranks}


def bad_confs():
    good = adapter_conf(some_plan(), "0123")
    ranks = good["ranks"]
    changed = {"unknown site": {**ranks, "encoder.weight": 3}, "site by number": {**ranks, 3: 3}}
    changed["missing site"] = {name: rank for name, rank in ranks.items() if name != "proj.weight"}
    for bad in (0, -1, 2.5, True, 6, 10**6, "3", None):
        changed[f"rank {bad!r}"] = {**ranks, "proj.weight": bad}
    confs = {name: {**good, "ranks": changed[name]} for name in changed}
    confs["nothing"] = {}
    confs["no ranks"] = {"base_hash": "0123"}
    confs["no hash"] = {"ranks": ranks}
    confs["ranks as a list"] = {**good, "ranks": list(ranks)}
    confs["ranks as None"] = {**good, "ranks": None}
    confs["unknown key"] = {**good, "rank": 3}
    confs["numbered key"] = {**good, 7: 3}
    return confs


@pytest.mark.parametrize("conf", bad_confs().values(), ids=bad_confs().keys())
def test_a_bad_config_is_one_line_and_leaves_the_model_alone(conf):
    model = toy()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ShrinkError) as caught:
        build_from_conf(model, conf)
    assert "\n" not in str(caught.value)
    assert model.state_dict().keys() == before.keys()
    close(dict(model.state_dict()), dict(before), 0)


def test_a_plan_that_does_not_fit_is_refused_before_anything_changes():
    model = toy()
    plan = Plan({**some_plan().ranks, "out.weight": 9})
    with pytest.raises(ShrinkError, match="rank 9 of out.weight"):
        factorise(model, plan, {})
    assert not any(isinstance(module, LowRankLSTM) for module in model.modules())


def test_a_model_knows_its_plan_until_it_is_folded():
    plan = some_plan()
    assert plan_of(toy()) == dense_plan(survey(toy()).sites)
    model = factorised(plan)
    assert plan_of(model) == plan
    assert plan_of(copy.deepcopy(model)) == plan
    fresh = toy()
    build_from_conf(fresh, adapter_conf(plan, "0123"))
    assert plan_of(fresh) == plan
    fold(model)
    assert set(plan_of(model).ranks.values()) == {DENSE}
    assert plan_of(model).ranks.keys() == plan.ranks.keys()


def test_folded_models_can_be_factorised_again():
    model = factorised(some_plan(0))
    fold(model)
    again = some_plan(1)
    factorise(model, again, factors_of(again, parts_of(model)))
    assert plan_of(model) == again


WORDS = torch.tensor([[3, 0, 29, 7, 0, 12, 21]])
ZOO_RANKS = {
    "table.weight": 3, "pointwise.weight": 2, "plane.weight": 1, "gru.weight_hh_l1": 2,
    "cell.weight_ih": 4, "left.weight": 3, "once.weight": 2, "encoder.weight": 4,
}  # fmt: skip


def zoo_plan():
    return Plan({**dense_plan(survey(zoo()).sites).ranks, **ZOO_RANKS})


def small_zoo(plan=None):
    plan, model = plan or zoo_plan(), zoo()
    factorise(model, plan, factors_of(plan, parts_of(model)))
    return model


def shared(model):
    """What is shared in a Zoo, by what is needed to see it."""
    return {
        "matrix": model.left.weight is model.right.weight,
        "bias": model.left.bias is model.right.bias,
        "module": model.once is model.twice,
        "table": model.encoder.weight is model.decoder.weight,
    }


def factors_are_shared(model):
    pairs = [(model.left.U, model.right.U), (model.left.V, model.right.V)]
    same = [a.weight is b.weight for a, b in pairs] + [model.once is model.twice]
    decoder = model.decoder
    return all(same) and (model.encoder.weight_U, model.encoder.weight_V) == (
        decoder.U.weight,
        decoder.V.weight,
    )


def test_every_kind_of_layer_becomes_its_low_rank_twin():
    model = small_zoo()
    found = {name: type(module) for name, module in model.named_children()}
    linear = dict.fromkeys(("left", "right", "once", "decoder"), LowRankLinear)
    assert found == {
        "table": LowRankEmbedding, "pointwise": LowRankConv, "plane": LowRankConv,
        "gru": LowRankGRU, "cell": LowRankGRUCell, "encoder": LowRankEmbedding, **linear,
    }  # fmt: skip
    assert model.twice is model.once and model.pointwise.stride == (2,)


@pytest.mark.parametrize("seed", range(4))
def test_models_with_shared_weights_equal_the_dense_one_with_products(seed):
    plan = random_plan(survey(zoo()).sites, seed)
    expected = zoo()
    parts = parts_of(expected)
    for name, rank in plan.factored.items():
        weight = expected.get_parameter(name)
        weight.data.copy_(parts[name].product(rank).view_as(weight))
    model = small_zoo(plan)
    with torch.no_grad():
        close(model(WORDS), expected(WORDS))
        fold(model)
        close(model(WORDS), expected(WORDS))
    assert shared(model) == shared(zoo())
    assert list(model.state_dict()) == list(expected.state_dict())
    close(dict(model.state_dict()), dict(expected.state_dict()))
    assert survey(model) == survey(expected)


def test_owners_of_a_shared_weight_share_its_factors_and_nothing_else():
    model = small_zoo()
    assert factors_are_shared(model)
    assert model.left.U.bias is not model.right.U.bias
    plan, sites = zoo_plan(), survey(zoo()).sites
    saved = sum(site.params - site.params_at(plan.ranks[site.name]) for site in sites)
    total = sum(p.numel() for p in zoo().parameters())
    assert sum(p.numel() for p in model.parameters()) == total - saved


def test_a_shared_factor_gets_the_gradients_of_all_its_owners():
    model = small_zoo()
    dense = copy.deepcopy(model)
    fold(dense)
    for each in (model, dense):
        each(WORDS).sin().sum().backward()
    for name in ("left", "once", "decoder"):
        low, g = model.get_submodule(name), dense.get_submodule(name).weight.grad
        close(low.U.weight.grad, g @ low.V.weight.T)
        close(low.V.weight.grad, low.U.weight.T @ g)


def test_weights_that_are_shared_stay_so_where_a_plan_leaves_them_dense():
    """Also a bias, when only one of its owners is replaced."""
    model = zoo()
    model.once.bias = model.left.bias
    model.gru.weight_hh_l1 = model.gru.weight_hh_l0
    ranks = {**dense_plan(survey(model).sites).ranks, "left.weight": 3, "gru.weight_ih_l0": 2}
    plan = Plan(ranks)
    expected = copy.deepcopy(model)
    for name in plan.factored:
        expected.get_parameter(name).data.copy_(parts_of(model)[name].product(plan.ranks[name]))
    factorise(model, plan, factors_of(plan, parts_of(model)))
    assert model.gru.weight_hh_l1 is model.gru.weight_hh_l0
    assert model.left.U.bias is model.once.bias and model.encoder.weight is model.decoder.weight
    close(model(WORDS), expected(WORDS))
    fold(model)
    assert model.once.bias is model.left.bias and shared(model) == shared(expected)
    assert model.gru.weight_hh_l1 is model.gru.weight_hh_l0
    close(model(WORDS), expected(WORDS))


def test_what_is_frozen_stays_frozen():
    model = zoo()
    frozen = ["gru.weight_hh_l1", "left.weight", "cell.bias_hh", "table.weight"]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    factorise(model, zoo_plan(), factors_of(zoo_plan(), parts_of(zoo())))
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "gru.weight_hh_l1_U", "gru.weight_hh_l1_V", "left.U.weight", "left.V.weight",
        "cell.bias_hh", "table.weight_U", "table.weight_V",
    }  # fmt: skip
    fold(model)
    left = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert left == set(frozen)


def test_checkpoints_of_shared_factors_hold_every_name_and_load_strictly():
    plan, trained = zoo_plan(), small_zoo()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    state = trained.state_dict()
    assert {"left.U.weight", "right.U.weight", "once.V.weight", "twice.V.weight",
            "encoder.weight_U", "decoder.U.weight"} <= state.keys()  # fmt: skip
    torch.manual_seed(99)
    fresh = Zoo().eval()
    build_from_conf(fresh, adapter_conf(plan, "0123"))
    assert factors_are_shared(fresh)
    fresh.load_state_dict(state, strict=True)
    assert factors_are_shared(fresh)
    with torch.no_grad():
        close(fresh(WORDS), trained(WORDS), 0)
    assert factors_are_shared(copy.deepcopy(fresh))
