"""A linear layer as the product of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from espnet_shrink.layers.factors import allocate_like, check_rank, given_or_svd


class LowRankLinear(nn.Module):
    """Drop-in for torch.nn.Linear with weight = U V: y = U (V x) + b.

    Both factors are plain torch.nn.Linear, so tools that look for those (dynamic
    quantisation, pruning) find them.

    Args:
        in_features, out_features, bias: as torch.nn.Linear.
        rank: r, 1 <= r <= min(out_features, in_features).
        linear: class of both factors, for subclasses that add a cast of their own.
    State dict:
        V.weight (r, in), U.weight (out, r), U.bias (out) if bias.
    Raises:
        ShrinkError: rank out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool = True,
        linear: type[nn.Linear] = nn.Linear,
    ) -> None:
        super().__init__()
        check_rank("weight", rank, (out_features, in_features))
        self.V = linear(in_features, rank, bias=False)
        self.U = linear(rank, out_features, bias=bias)

    @classmethod
    def from_dense(
        cls, linear: nn.Linear, rank: int, factors: tuple[Tensor, Tensor] | None = None
    ) -> LowRankLinear:
        """Factor a dense layer.

        Args:
            linear: the layer; device, dtype, class and training mode follow it.
            rank: r.
            factors: U (out, r) and V (r, in); without them a truncated, balanced SVD.
        Raises:
            ShrinkError: rank out of range or factors of another shape.
        """
        named = None if factors is None else {"weight": factors}
        u, v = given_or_svd("weight", linear.weight, rank, named)
        bias = linear.bias is not None
        with torch.device("meta"):
            new = cls(linear.in_features, linear.out_features, rank, bias, type(linear))
        allocate_like(new, linear.weight, linear.training)
        with torch.no_grad():
            new.U.weight.copy_(u)
            new.V.weight.copy_(v)
            if bias:
                new.U.bias.copy_(linear.bias)
        return new

    def to_dense(self) -> nn.Linear:
        """The same map as one layer of the factors' class, factors multiplied out."""
        with torch.device("meta"):
            dense = type(self.U)(self.in_features, self.out_features, bias=self.bias is not None)
        allocate_like(dense, self.U.weight, self.training)
        with torch.no_grad():
            dense.weight.copy_(self.weight)
            if self.bias is not None:
                dense.bias.copy_(self.bias)
        return dense

    @property
    def in_features(self) -> int:
        return self.V.in_features

    @property
    def out_features(self) -> int:
        return self.U.out_features

    @property
    def rank(self) -> int:
        return self.V.out_features

    @property
    def weight(self) -> Tensor:
        """The product U V, (out, in), computed on every read; gradients reach both factors."""
        return _as_float(self.U.weight) @ _as_float(self.V.weight)

    @property
    def bias(self) -> Tensor | None:
        return None if self.U.bias is None else _as_float(self.U.bias)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., in) -> (..., out)."""
        return self.U(self.V(input))


def _as_float(value: Any) -> Tensor:
    """A weight or bias; dynamic quantisation makes methods of both, and int8 of weights."""
    tensor = value() if callable(value) else value
    return tensor.dequantize() if tensor.is_quantized else tensor
