"""Find the weight matrices of a model that can be factorised, and say why others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from espnet_shrink.layers import LowRankLinear, LowRankLSTM, LowRankLSTMCell
from espnet_shrink.plan import Site


@dataclass(frozen=True)
class Uncompressed:
    """A parameter that no plan decides on, and why."""

    name: str
    params: int
    reason: str


@dataclass(frozen=True)
class Survey:
    """All parameters of a model, each either a site or named with a reason."""

    sites: list[Site]
    uncompressed: list[Uncompressed]


REASONS: list[tuple[type[torch.nn.Module], str]] = [
    (torch.nn.Embedding, "embedding: a table look-up, nothing is multiplied"),
    (torch.nn.modules.conv._ConvNd, "convolution: not a plain matrix product"),
    (torch.nn.LSTM, "LSTM with a projection, or a subclass: no low-rank layer for it"),
    (torch.nn.GRU, "GRU: no low-rank layer for it"),
    (torch.nn.GRUCell, "GRU: no low-rank layer for it"),
]


def survey(model: torch.nn.Module) -> Survey:
    """List the sites of `model`, in the order of its modules, and everything else by name.

    Linear, LSTM and LSTMCell weights are sites if some rank below break-even exists and the
    weight is not shared with another module.
    """
    kinds: dict[str, str] = {}
    owners: dict[str, torch.nn.Module] = {}
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    inside_low_rank: tuple[str, ...] = ()
    for prefix, module in model.named_modules():
        if is_low_rank(module):
            inside_low_rank += (_join(prefix, ""),)
        for name, kind in _matrices(module):
            kinds[_join(prefix, name)] = kind
        for name, _ in module.named_parameters(recurse=False):
            owners[_join(prefix, name)] = module
    sites, uncompressed = [], []
    for name, parameter in model.named_parameters():
        reason = _reason(name, parameter, kinds, owners, names_of, inside_low_rank)
        if reason is None:
            out_size, in_size = parameter.shape
            sites.append(Site(name, (out_size, in_size), kinds[name]))
        else:
            uncompressed.append(Uncompressed(name, parameter.numel(), reason))
    return Survey(sites, uncompressed)


def _matrices(module: torch.nn.Module) -> Iterator[tuple[str, str]]:
    # Exact types: a subclass may use its weight in ways of its own.
    if type(module) is torch.nn.Linear:
        yield "weight", "linear"
    elif type(module) is torch.nn.LSTM and module.proj_size == 0:
        for name, _ in module.named_parameters():
            if name.startswith("weight_ih"):
                yield name, "lstm_input"
            elif name.startswith("weight_hh"):
                yield name, "lstm_recurrent"
    elif type(module) is torch.nn.LSTMCell:
        yield "weight_ih", "cell_input"
        yield "weight_hh", "cell_recurrent"


def _reason(
    name: str,
    parameter: torch.Tensor,
    kinds: dict[str, str],
    owners: dict[str, torch.nn.Module],
    names_of: dict[int, list[str]],
    inside_low_rank: tuple[str, ...],
) -> str | None:
    if parameter.dim() < 2:
        return "a vector (bias, norm or gain)"
    others = [other for other in names_of[id(parameter)] if other != name]
    if others:
        return f"tied to {others[0]}"
    if name.startswith(inside_low_rank):
        return "in a low-rank layer already: fold it first"
    if name in kinds:
        too_small = Site(name, (parameter.shape[0], parameter.shape[1]), "").largest_useful_rank < 1
        return "too small: no rank below break-even" if too_small else None
    owner = owners[name]
    for kind, reason in REASONS:
        if isinstance(owner, kind):
            return reason
    return f"no low-rank layer for {type(owner).__name__}"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def is_low_rank(module: torch.nn.Module) -> bool:
    """Whether `module` is one of ours."""
    return isinstance(module, (LowRankLinear, LowRankLSTM, LowRankLSTMCell))
