"""Second moments of what weights are given, or make of it: whichever matrix is smaller.

To find the rank-r W' that minimises E ||W x - W' x||^2, either E[x x^T] (in, in) serves or, as
W' = P P^T W with P the first eigenvectors of it, E[Wx (Wx)^T] (out, out). Of the first linear layer
of a large Conformer that is 2 for 720 MiB, of its feed-forward layers a sixteenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from espnet_shrink.methods.lowrank.decompose import RIDGE


@dataclass
class _Sum:
    """Of what a weight is given, and with it those that are given the same tensors in turn."""

    total: Tensor
    given: Tensor
    version: int
    calls: int = 1
    met: dict[str, int] = field(default_factory=dict)  # weight -> calls

    def has(self, inputs: Tensor) -> bool:
        """Whether `inputs` are the last that were summed, unchanged."""
        return inputs is self.given and inputs._version == self.version


@dataclass
class _Outputs:
    """Of what a weight (out, in) makes of its inputs."""

    weight: Tensor
    total: Tensor | None = None
    squares: float = 0.0  # of the inputs' entries

    def add(self, inputs: Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).to(torch.float64)
        made = _squares(rows @ self.weight.to(torch.float64).T)
        self.total = made if self.total is None else self.total + made
        self.squares += float(rows.square().sum())

    def mean(self, count: int) -> Tensor:
        assert self.total is not None
        W = self.weight.to(torch.float64)
        noise = RIDGE * self.squares / max(count, 1) / W.shape[1]
        return self.total / max(count, 1) + noise * (W @ W.T)


class SecondMoments:
    """Adds up x x^T (in, in), in float64; of wide weights Wx (Wx)^T (out, out).

    Queries, keys and values of an attention, or both directions of an LSTM, are given one tensor:
    of a large Conformer that is a third of all sums. What shares its first input is taken to share
    all; where that turns out wrong, `parted` names it, and everything is to be summed anew.

    Args:
        wide: weights (out, in) with more inputs than outputs, by name.
        apart: weights that share nothing.
    """

    def __init__(self, wide: Mapping[str, Tensor], apart: set[str]) -> None:
        self._apart = apart
        self._outputs = {name: _Outputs(weight) for name, weight in wide.items()}
        self._sums: dict[str, _Sum] = {}
        self._latest: dict[int, _Sum] = {}  # id of a tensor that is held -> its sum

    def add(self, weight: str, inputs: Tensor) -> None:
        """Add what a weight is given, (..., in)."""
        if weight in self._outputs:
            self._outputs[weight].add(inputs)
            return
        own = self._sums.get(weight)
        if own is None:
            shared = None if weight in self._apart else self._latest.get(id(inputs))
            if shared is not None and shared.calls == 1 and shared.has(inputs):
                self._sums[weight] = shared
                shared.met[weight] = 1
            else:
                own = _Sum(_squares(inputs), inputs, inputs._version, met={weight: 1})
                self._sums[weight] = self._latest[id(inputs)] = own
            return
        first = next(iter(own.met))
        if weight == first:
            if self._latest.get(id(own.given)) is own:
                del self._latest[id(own.given)]
            own.total += _squares(inputs)
            own.given, own.version, own.calls = inputs, inputs._version, own.calls + 1
            own.met[weight] = own.calls
            self._latest[id(inputs)] = own
        elif own.has(inputs) and own.met[weight] == own.calls - 1:
            own.met[weight] = own.calls
        else:
            own.met[weight] = -1  # for good

    @property
    def parted(self) -> set[str]:
        """Weights that were given something else than those that they seemed to share with."""
        return {weight for weight, own in self._sums.items() if own.met[weight] != own.calls}

    def means(self, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Weight -> (in, in) in float32 or, as small ones matter, (out, out) in float64.

        The sums, over `counts` inputs, are let go in turn. Those of outputs are as of inputs with a
        little noise, the ridge that `decompose` adds to those of inputs.
        """
        found = {
            name: outputs.mean(counts[name]) for name, outputs in self._outputs.items()
            if outputs.total is not None
        }  # fmt: skip
        by_sum: dict[int, Tensor] = {}
        self._latest.clear()
        for weight, own in self._sums.items():
            if id(own) not in by_sum:
                by_sum[id(own)] = (own.total / max(counts[weight], 1)).to(torch.float32)
                own.total = own.given = torch.empty(0)
            found[weight] = by_sum[id(own)]
        self._sums = {}
        return found


def _squares(inputs: Tensor) -> Tensor:
    x = inputs.reshape(-1, inputs.shape[-1]).to(torch.float64)
    return x.T @ x
