"""Put a plan into a model: replace modules by low-rank ones, and fold them back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from espnet_shrink.layers.factors import Factors
from espnet_shrink.methods.lowrank.kinds import is_low_rank, layer_kind
from espnet_shrink.methods.lowrank.owners import (
    dense_names,
    keepers,
    share,
    shared_names,
    walk,
)
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import Plan, dense_plan


def factorise(model: nn.Module, plan: Plan, factors: Factors) -> None:
    """Replace, in place, every module that `plan` factorises by its low-rank twin.

    What modules shared, parameters and factors of sites, they share after.

    Args:
        model: an uncompressed model.
        plan: checked against the model's sites.
        factors: site name -> (U: (out, r), V: (r, in)) for every factorised site.

    Raises:
        ShrinkError: the plan does not fit the model.
    """
    plan.check(survey(model).sites)
    groups = shared_names(model)
    names_of = {names[0]: names for names in groups}
    wanted: dict[int, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
    for site in plan.factored:
        for name in names_of.get(site, [site]):
            path, _, own = name.rpartition(".")
            wanted.setdefault(id(model.get_submodule(path)), {})[own] = factors[site]

    def twin_of(module: nn.Module) -> nn.Module | None:
        own = wanted.get(id(module))
        if own is None:
            return None
        twin = low_rank_twin(module, own)
        twin.train(model.training)
        return twin

    _replace(model, twin_of)
    share(model, groups)
    model.shrink_plan = plan  # type: ignore[assignment]


def fold(model: nn.Module) -> None:
    """Multiply out, in place, every low-rank module: W = U V."""
    groups = shared_names(model)
    _replace(model, lambda module: module.to_dense() if is_low_rank(module) else None)  # type: ignore[operator]
    share(model, groups)
    if hasattr(model, "shrink_plan"):
        del model.shrink_plan


def low_rank_twin(module: nn.Module, factors: Factors) -> nn.Module:
    """The low-rank module for a dense one.

    Args:
        module: dense.
        factors: its own names of weights -> (U: (out, r), V: (r, in)).
    """
    kind = layer_kind(module)
    if kind is None:
        raise TypeError(f"no low-rank layer for {type(module).__name__}")
    ranks = {name: U.shape[1] for name, (U, _) in factors.items()}
    if set(kind.matrices) == {"weight"}:
        twin: nn.Module = kind.twin.from_dense(module, ranks["weight"], factors["weight"])
    else:
        twin = kind.twin.from_dense(module, ranks, factors)
    return twin


def _replace(model: nn.Module, twin_of: Callable[[nn.Module], nn.Module | None]) -> None:
    """Put what `twin_of` gives in the place of every module, once for all places of a module."""
    twins: dict[int, nn.Module | None] = {}
    for path, module in list(walk(model)):
        if id(module) not in twins:
            twins[id(module)] = twin = twin_of(module)
            if twin is not None:
                twin.train(model.training)
                _freeze_alike(module, twin)
        twin = twins[id(module)]
        if twin is not None:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, twin)


def _freeze_alike(module: nn.Module, twin: nn.Module) -> None:
    for name in dense_names(module):
        trains = all(getattr(*place).requires_grad for place in keepers(module, name))
        for place in keepers(twin, name):
            getattr(*place).requires_grad_(trains)


def build(model: nn.Module, plan: Plan) -> None:
    """Give a freshly built model the shapes of `plan`: its factors are zero.

    Raises:
        ShrinkError: a plan that does not fit the model.
    """
    sites = {site.name: site for site in survey(model).sites}
    plan.check(sites.values())
    parameters = dict(model.named_parameters())
    factors = {}
    for name, rank in plan.factored.items():
        weight = parameters[name]
        out_size, in_size = sites[name].shape
        factors[name] = (weight.new_zeros(out_size, rank), weight.new_zeros(rank, in_size))
    factorise(model, plan, factors)


def plan_of(model: nn.Module) -> Plan:
    """The plan that a model was factorised by; all dense if it is not compressed."""
    plan = getattr(model, "shrink_plan", None)
    if isinstance(plan, Plan):
        return plan
    return dense_plan(survey(model).sites)
