"""A pointwise convolution as the product of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers.factors import allocate_like, check_rank, given_or_svd

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}


def is_pointwise(conv: nn.Module) -> bool:
    """Whether a convolution is one plain matrix product per position: kernel 1, ungrouped."""
    return (
        isinstance(conv, (nn.Conv1d, nn.Conv2d))
        and all(size == 1 for size in conv.kernel_size)
        and conv.groups == 1
        # "same" and "valid" pad nothing around a kernel of 1.
        and (isinstance(conv.padding, str) or not any(conv.padding))
    )


class LowRankConv(nn.Module):
    """Drop-in for torch.nn.Conv1d and Conv2d of kernel size 1, with weight = U V.

    Both factors are plain torch convolutions; V takes the stride, so U runs on what is left.

    Args:
        in_channels, out_channels, stride, bias: as torch's.
        rank: r, 1 <= r <= min(out_channels, in_channels).
        dimensions: 1 or 2.
    State dict:
        V.weight (r, in, 1 ...), U.weight (out, r, 1 ...), U.bias (out) if bias.
    Raises:
        ShrinkError: rank out of range.
    """

    padding_mode = "zeros"
    groups = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rank: int,
        stride: int | tuple[int, ...] = 1,
        bias: bool = True,
        dimensions: int = 1,
    ) -> None:
        super().__init__()
        check_rank("weight", rank, (out_channels, in_channels))
        convolution = CONVOLUTIONS[dimensions]
        self.V = convolution(in_channels, rank, 1, stride=stride, bias=False)
        self.U = convolution(rank, out_channels, 1, bias=bias)

    @classmethod
    def from_dense(
        cls, conv: nn.Conv1d | nn.Conv2d, rank: int, factors: tuple[Tensor, Tensor] | None = None
    ) -> LowRankConv:
        """Factor a dense convolution; device, dtype and training mode follow it.

        Args:
            rank: r.
            factors: U (out, r) and V (r, in); without them a truncated, balanced SVD.
        Raises:
            ShrinkError: not pointwise, rank out of range or factors of another shape.
        """
        if not is_pointwise(conv):
            raise ShrinkError(
                "a convolution of kernel size above 1, with groups or padding, cannot be "
                "factorised; leave it dense"
            )
        named = None if factors is None else {"weight": factors}
        u, v = given_or_svd("weight", conv.weight.flatten(1), rank, named)
        dimensions = len(conv.kernel_size)
        with torch.device("meta"):
            new = cls(
                conv.in_channels, conv.out_channels, rank, conv.stride,
                conv.bias is not None, dimensions,
            )  # fmt: skip
        allocate_like(new, conv.weight, conv.training)
        with torch.no_grad():
            new.U.weight.copy_(u.view_as(new.U.weight))
            new.V.weight.copy_(v.view_as(new.V.weight))
            if conv.bias is not None:
                new.U.bias.copy_(conv.bias)
        return new

    def to_dense(self) -> Any:
        """The same map as one torch convolution, factors multiplied out."""
        with torch.device("meta"):
            dense = type(self.U)(
                self.in_channels, self.out_channels, 1, stride=self.stride,
                bias=self.bias is not None,
            )  # fmt: skip
        allocate_like(dense, self.U.weight, self.training)
        with torch.no_grad():
            dense.weight.copy_(self.weight)
            if self.bias is not None:
                dense.bias.copy_(self.bias)
        return dense

    @property
    def in_channels(self) -> int:
        return self.V.in_channels

    @property
    def out_channels(self) -> int:
        return self.U.out_channels

    @property
    def rank(self) -> int:
        return self.V.out_channels

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.U.kernel_size

    @property
    def stride(self) -> tuple[int, ...]:
        return self.V.stride

    @property
    def padding(self) -> tuple[int, ...]:
        return self.U.padding

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.U.dilation

    @property
    def weight(self) -> Tensor:
        """The product U V, (out, in, 1 ...), computed on every read."""
        product = self.U.weight.flatten(1) @ self.V.weight.flatten(1)
        return product.view(*product.shape, *self.kernel_size)

    @property
    def bias(self) -> Tensor | None:
        return self.U.bias

    def forward(self, input: Tensor) -> Tensor:
        """input (B, in, T) or (B, in, T, F), or without B -> the same with out channels."""
        return self.U(self.V(input))
