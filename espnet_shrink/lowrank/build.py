"""Put a plan into a model: replace modules by low-rank ones, and fold them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import LowRankLinear, LowRankLSTM, LowRankLSTMCell
from espnet_shrink.lowrank.sites import is_low_rank, survey
from espnet_shrink.plan import DENSE, Plan

Factors = Mapping[str, tuple[torch.Tensor, torch.Tensor]]

LOW_RANK: dict[type[torch.nn.Module], Any] = {
    torch.nn.LSTM: LowRankLSTM,
    torch.nn.LSTMCell: LowRankLSTMCell,
}


def factorise(model: torch.nn.Module, plan: Plan, factors: Factors) -> None:
    """Replace, in place, every module that `plan` factorises by its low-rank twin.

    Args:
        model: an uncompressed model.
        plan: checked against the model's sites.
        factors: site name -> (U: (out, r), V: (r, in)) for every factorised site.

    Raises:
        ShrinkError: the plan does not fit the model.
    """
    plan.check(survey(model).sites)
    by_module: dict[str, dict[str, int]] = {}
    for site, rank in plan.factored.items():
        path, _, name = site.rpartition(".")
        by_module.setdefault(path, {})[name] = rank
    for path, ranks in by_module.items():
        module = model.get_submodule(path)
        own = {name: factors[f"{path}.{name}"] for name in ranks}
        if isinstance(module, torch.nn.Linear):
            new: torch.nn.Module = LowRankLinear.from_dense(module, ranks["weight"], own["weight"])
        else:
            new = LOW_RANK[type(module)].from_dense(module, ranks, own)
        _replace(model, path, new)
    model.shrink_plan = plan  # type: ignore[assignment]


def fold(model: torch.nn.Module) -> None:
    """Multiply out, in place, every low-rank module: W = U V."""
    for path, module in list(model.named_modules()):
        if is_low_rank(module):
            _replace(model, path, module.to_dense())  # type: ignore[operator]
    if hasattr(model, "shrink_plan"):
        del model.shrink_plan


def _replace(model: torch.nn.Module, path: str, new: torch.nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    new.train(model.training)
    setattr(model.get_submodule(parent), name, new)


def adapter_conf(plan: Plan, base_hash: str) -> dict[str, Any]:
    """The `adapter_conf` of a compressed model's config.yaml: its whole plan."""
    return {"base_hash": base_hash, "ranks": dict(plan.ranks)}


def build_from_conf(model: torch.nn.Module, conf: Mapping[str, Any]) -> None:
    """Give a freshly built model the shapes that `adapter_conf` asks for.

    The values are left to the checkpoint: at this point the weights are random.

    Raises:
        ShrinkError: keys missing or unknown, or a plan that does not fit the model.
    """
    if set(conf) != {"base_hash", "ranks"} or not isinstance(conf["ranks"], dict):
        raise ShrinkError(
            "adapter_conf of `adapter: shrink` needs exactly base_hash and ranks, "
            f"but has {', '.join(sorted(map(str, conf))) or 'nothing'}"
        )
    plan = Plan(conf["ranks"])
    sites = {site.name: site for site in survey(model).sites}
    plan.check(sites.values())
    parameters = dict(model.named_parameters())
    factors = {}
    for name, rank in plan.factored.items():
        weight = parameters[name]
        out_size, in_size = weight.shape
        factors[name] = (weight.new_zeros(out_size, rank), weight.new_zeros(rank, in_size))
    factorise(model, plan, factors)


def plan_of(model: torch.nn.Module) -> Plan:
    """The plan that a model was factorised by; all dense if it is not compressed."""
    plan = getattr(model, "shrink_plan", None)
    if isinstance(plan, Plan):
        return plan
    return Plan({site.name: DENSE for site in survey(model).sites})
