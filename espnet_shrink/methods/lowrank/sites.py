"""Find the weight matrices of a model that can be factorised, and say why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from espnet_shrink.methods.lowrank.kinds import SiteKind, is_low_rank, matrices
from espnet_shrink.methods.lowrank.owners import join, walk
from espnet_shrink.methods.lowrank.reasons import reason_of
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.plan import Survey, Uncompressed, Why

# A looked-up table saves no time when it is factorised, so it must be worth its errors in size.
LEAST_EMBEDDING_SHARE = 0.05


@dataclass(frozen=True)
class _Owner:
    """One place where a parameter is used: its dotted name there, the module, and the site kind."""

    name: str
    module: nn.Module
    kind: SiteKind | None


def survey(model: nn.Module) -> Survey[Site]:
    """List the sites of `model`, in the order of its modules, and everything else by name.

    Matrices of Linear, LSTM, GRU, their cells, pointwise convolutions and large embeddings are
    sites if some rank below break-even exists. A matrix that several modules share is one site,
    under its first name, if all of them can be factorised.
    """
    owners: dict[int, list[_Owner]] = {}
    for path, module in walk(model):
        kinds = matrices(module)
        for name, parameter in module.named_parameters("", is_low_rank(module), False):
            owner = _Owner(join(path, name), module, kinds.get(name))
            owners.setdefault(id(parameter), []).append(owner)
    total = sum(parameter.numel() for parameter in model.parameters())
    sites, uncompressed = [], []
    for name, parameter in model.named_parameters():
        own = owners[id(parameter)]
        left = _reason(parameter, own, total)
        if left is None:
            sites.append(Site(name, _shape(parameter), _kind(own)))
        else:
            why, reason = left
            uncompressed.append(
                Uncompressed(name, parameter.numel(), reason, tuple(parameter.shape), why)
            )
    return Survey(sites, uncompressed)


def _kind(owners: Sequence[_Owner]) -> SiteKind:
    """What the matrix is for: a table that is also multiplied with counts as the product."""
    kinds = [owner.kind for owner in owners if owner.kind is not None]
    return next((k for k in kinds if k is not SiteKind.EMBEDDING), SiteKind.EMBEDDING)


def _shape(parameter: torch.Tensor) -> tuple[int, int]:
    """(out, in): the kernel of a pointwise convolution has trailing ones."""
    return parameter.shape[0], parameter.shape[1]


def _reason(
    parameter: torch.Tensor, owners: Sequence[_Owner], total: int
) -> tuple[Why, str] | None:
    if parameter.dim() < 2:
        return Why.VECTOR, "a vector (bias, norm or gain)"
    if any(is_low_rank(owner.module) for owner in owners):
        return Why.COMPRESSED, "in a low-rank layer already: fold it first"
    if any(owner.name.startswith("frontend.") for owner in owners):
        return Why.FRONTEND, "part of the frontend: frontends are left alone"
    for owner in owners:
        if owner.kind is None:
            reason = reason_of(owner.name, owner.module)
            if owner is owners[0]:
                return Why.NO_LAYER, reason
            return Why.TIED, f"tied to {owner.name}: {reason}"
    kind = _kind(owners)
    if kind is SiteKind.EMBEDDING and parameter.numel() < LEAST_EMBEDDING_SHARE * total:
        return Why.LOOK_UP, (
            f"embedding of less than {LEAST_EMBEDDING_SHARE:.0%} of the parameters: "
            "a table look-up, no time to save"
        )
    if Site("", _shape(parameter), kind).largest_useful_rank < 1:
        return Why.TOO_SMALL, "too small: no rank below break-even"
    return None
