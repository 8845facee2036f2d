"""Find the weight matrices of a model that can be factorised, and say why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from espnet_shrink.layers import is_plain_embedding, is_pointwise
from espnet_shrink.methods.lowrank.owners import is_low_rank, join, walk
from espnet_shrink.methods.lowrank.reasons import reason_of
from espnet_shrink.plan import Site

# A looked-up table saves no time when it is factorised, so it must be worth its errors in size.
LEAST_EMBEDDING_SHARE = 0.05

# Subclasses of torch.nn.Linear that only cast; by name, as their packages may not be there.
PLAIN_LINEARS = {"whisper.model.Linear"}


@dataclass(frozen=True)
class Uncompressed:
    """A parameter that no plan decides on, and why."""

    name: str
    params: int
    reason: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Survey:
    """All parameters of a model, each either a site or named with a reason."""

    sites: list[Site]
    uncompressed: list[Uncompressed]


@dataclass(frozen=True)
class _Owner:
    """One place where a parameter is used: its dotted name there, the module, and the site kind."""

    name: str
    module: nn.Module
    kind: str | None


def survey(model: nn.Module) -> Survey:
    """List the sites of `model`, in the order of its modules, and everything else by name.

    Matrices of Linear, LSTM, GRU, their cells, pointwise convolutions and large embeddings are
    sites if some rank below break-even exists. A matrix that several modules share is one site,
    under its first name, if all of them can be factorised.
    """
    owners: dict[int, list[_Owner]] = {}
    for path, module in walk(model):
        kinds = _matrices(module)
        for name, parameter in module.named_parameters("", is_low_rank(module), False):
            owner = _Owner(join(path, name), module, kinds.get(name))
            owners.setdefault(id(parameter), []).append(owner)
    total = sum(parameter.numel() for parameter in model.parameters())
    sites, uncompressed = [], []
    for name, parameter in model.named_parameters():
        own = owners[id(parameter)]
        reason = _reason(parameter, own, total)
        if reason is None:
            sites.append(Site(name, _shape(parameter), _kind(own)))
        else:
            shape = tuple(parameter.shape)
            uncompressed.append(Uncompressed(name, parameter.numel(), reason, shape))
    return Survey(sites, uncompressed)


def describe(found: Survey) -> list[str]:
    """One line for every parameter, vectors aside, that stays as it is: what it is, and why."""
    return [
        f"{u.name} ({'x'.join(map(str, u.shape))}, {u.params:,} params): {u.reason}"
        for u in found.uncompressed
        if len(u.shape) > 1
    ]


def _matrices(module: nn.Module) -> dict[str, str]:
    """The kind of every matrix of `module` that can be factorised, by its name there."""
    # Exact types: a subclass may use its weight in ways of its own.
    kind = type(module)
    if kind is nn.Linear or f"{kind.__module__}.{kind.__qualname__}" in PLAIN_LINEARS:
        return {"weight": "linear"}
    if kind in (nn.LSTM, nn.GRU) and not module.proj_size:
        name = "lstm" if kind is nn.LSTM else "gru"
        parts = {"weight_ih": f"{name}_input", "weight_hh": f"{name}_recurrent"}
        names = [name for name, _ in module.named_parameters()]
        return {name: parts[name[:9]] for name in names if name[:9] in parts}
    if kind is nn.LSTMCell:
        return {"weight_ih": "cell_input", "weight_hh": "cell_recurrent"}
    if kind is nn.GRUCell:
        return {"weight_ih": "gru_cell_input", "weight_hh": "gru_cell_recurrent"}
    if kind in (nn.Conv1d, nn.Conv2d) and is_pointwise(module):
        return {"weight": "pointwise_conv"}
    if kind is nn.Embedding and is_plain_embedding(module):
        return {"weight": "embedding"}
    return {}


def _kind(owners: Sequence[_Owner]) -> str:
    """What the matrix is for: a table that is also multiplied with counts as the product."""
    kinds = [str(owner.kind) for owner in owners]
    return next((kind for kind in kinds if kind != "embedding"), "embedding")


def _shape(parameter: torch.Tensor) -> tuple[int, int]:
    """(out, in): the kernel of a pointwise convolution has trailing ones."""
    return parameter.shape[0], parameter.shape[1]


def _reason(parameter: torch.Tensor, owners: Sequence[_Owner], total: int) -> str | None:
    if parameter.dim() < 2:
        return "a vector (bias, norm or gain)"
    if any(is_low_rank(owner.module) for owner in owners):
        return "in a low-rank layer already: fold it first"
    if any(owner.name.startswith("frontend.") for owner in owners):
        return "part of the frontend: frontends are left alone"
    for owner in owners:
        if owner.kind is None:
            reason = reason_of(owner.name, owner.module)
            return reason if owner is owners[0] else f"tied to {owner.name}: {reason}"
    if _kind(owners) == "embedding" and parameter.numel() < LEAST_EMBEDDING_SHARE * total:
        return (
            f"embedding of less than {LEAST_EMBEDDING_SHARE:.0%} of the parameters: "
            "a table look-up, no time to save"
        )
    if Site("", _shape(parameter), "").largest_useful_rank < 1:
        return "too small: no rank below break-even"
    return None
