"""One LSTM or GRU step with a rank per matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from espnet_shrink.layers.factors import (
    Factors,
    add_matrix,
    allocate_like,
    check_names,
    copy_dense_parameters,
    copy_parameters,
    multiply,
    reset_parameters,
    stored_matrix,
)
from espnet_shrink.layers.inference import cell, few_rows
from espnet_shrink.layers.steps import gru_step, lstm_step

MATRICES = ("weight_ih", "weight_hh")


class LowRankCell(nn.Module):
    """Base of the drop-ins for torch's cells.

    A step never multiplies the factors out: x V^T U^T is cheaper than (U V) for one frame.

    Args:
        input_size, hidden_size, bias: as in torch (H = hidden_size).
        ranks: {"weight_ih": r, "weight_hh": r}; a matrix left out stays dense.
    State dict:
        torch's names; a factored NAME is NAME_U (gates H, r) and NAME_V (r, in or H).
    Raises:
        ShrinkError: rank out of range or a name that is no matrix of the cell.
    """

    dense: ClassVar[Any]
    gates: ClassVar[int]
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.ranks = dict(ranks or {})
        check_names(self.ranks, MATRICES, "ranks")
        rows = self.gates * hidden_size
        for name, columns in zip(MATRICES, (input_size, hidden_size), strict=True):
            add_matrix(self, name, (rows, columns), self.ranks.get(name))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, nn.Parameter(torch.empty(rows)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch's initialisation; a product has the variance of the dense matrix."""
        reset_parameters(self, self.hidden_size, self.ranks)

    @classmethod
    def from_dense(
        cls, module: Any, ranks: Mapping[str, int], factors: Factors | None = None
    ) -> Any:
        """Factor a dense cell; device, dtype and training mode follow it.

        Args:
            ranks: as in the constructor.
            factors: name -> (U (gates H, r), V (r, in)); a truncated, balanced SVD where missing.
        Raises:
            ShrinkError: unknown name, rank out of range or factors of another shape.
        """
        check_names(factors or {}, ranks, "factors")
        with torch.device("meta"):
            new = cls(module.input_size, module.hidden_size, module.bias, ranks)
        allocate_like(new, module.weight_ih, module.training)
        copy_parameters(module, new, new.ranks, factors)
        return new

    def to_dense(self) -> Any:
        """The same cell as torch's, factors multiplied out."""
        with torch.device("meta"):
            dense = self.dense(self.input_size, self.hidden_size, self.bias)
        allocate_like(dense, next(self.parameters()), self.training)
        copy_dense_parameters(self, dense, self.ranks)
        return dense

    def _products(self, input: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both products, each (..., gates H)."""
        return (
            multiply(self, "weight_ih", self.ranks, input, self.bias_ih),
            multiply(self, "weight_hh", self.ranks, h, self.bias_hh),
        )

    def _states(self, input: Tensor, states: tuple[Tensor, ...] | None, count: int) -> Any:
        """The given states, or zeros, after torch's checks."""
        if input.dim() not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: expected input to be 1D or 2D, got {input.dim()}D instead"
            )
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(-1)}, "
                f"expected {self.input_size}"
            )
        expected = (*input.shape[:-1], self.hidden_size)
        if states is None:
            return (input.new_zeros(expected),) * count
        for n, state in enumerate(states):
            if state.shape != expected:
                raise RuntimeError(f"Expected hx[{n}] size {expected}, got {tuple(state.shape)}")
        return states

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}, ranks={self.ranks}"


class LowRankLSTMCell(LowRankCell):
    """Drop-in for torch.nn.LSTMCell; see LowRankCell."""

    dense = nn.LSTMCell
    gates = 4

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """input (B, in) or (in); hx = (h, c), each (B, H) or (H), zeros if None -> (h, c).

        Raises:
            ValueError, RuntimeError: wrong number of dimensions or sizes.
        """
        h, c = self._states(input, hx, 2)
        ih, hh = (stored_matrix(self, name, self.ranks) for name in MATRICES)
        if few_rows(input, h, c, ih[0], hh[0]):
            return cell(input, h, c, ih, hh, (self.bias_ih, self.bias_hh))
        return lstm_step(*self._products(input, h), c)


class LowRankGRUCell(LowRankCell):
    """Drop-in for torch.nn.GRUCell; see LowRankCell."""

    dense = nn.GRUCell
    gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, in) or (in); hx (B, H) or (H), zeros if None -> hx after.

        Raises:
            ValueError, RuntimeError: wrong number of dimensions or sizes.
        """
        (h,) = self._states(input, None if hx is None else (hx,), 1)
        return gru_step(*self._products(input, h), h)
