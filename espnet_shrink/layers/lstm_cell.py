"""One LSTM step with a rank per matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_shrink.layers.factors import (
    Factors,
    add_matrix,
    allocate_like,
    check_names,
    copy_dense_parameters,
    copy_lstm_parameters,
    reset_lstm_parameters,
)

MATRICES = ("weight_ih", "weight_hh")


class LowRankLSTMCell(nn.Module):
    """Drop-in for torch.nn.LSTMCell.

    A step never multiplies the factors out: x V^T U^T is cheaper than (U V) for one frame.

    Args:
        input_size, hidden_size, bias: as torch.nn.LSTMCell (H = hidden_size).
        ranks: {"weight_ih": r, "weight_hh": r}; a matrix left out stays dense.
    State dict:
        torch's names; a factored NAME is NAME_U (4H, r) and NAME_V (r, in or H).
    Raises:
        ShrinkError: rank out of range or a name that is no matrix of the cell.
    """

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
        for name, columns in zip(MATRICES, (input_size, hidden_size), strict=True):
            add_matrix(self, name, (4 * hidden_size, columns), self.ranks.get(name))
        for name in ("bias_ih", "bias_hh"):
            value = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch's LSTM initialisation; a product has the variance of the dense matrix."""
        reset_lstm_parameters(self, self.hidden_size, self.ranks)

    @classmethod
    def from_dense(
        cls, module: nn.LSTMCell, ranks: Mapping[str, int], factors: Factors | None = None
    ) -> LowRankLSTMCell:
        """Factor a dense cell; device, dtype and training mode follow it.

        Args:
            ranks: as in the constructor.
            factors: name -> (U (4H, r), V (r, in)); a truncated, balanced SVD where missing.
        Raises:
            ShrinkError: unknown name, rank out of range or factors of another shape.
        """
        check_names(factors or {}, ranks, "factors")
        with torch.device("meta"):
            new = cls(module.input_size, module.hidden_size, module.bias, ranks)
        allocate_like(new, module.weight_ih, module.training)
        copy_lstm_parameters(module, new, new.ranks, factors)
        return new

    def to_dense(self) -> nn.LSTMCell:
        """The same cell as torch.nn.LSTMCell, factors multiplied out."""
        with torch.device("meta"):
            dense = nn.LSTMCell(self.input_size, self.hidden_size, self.bias)
        allocate_like(dense, next(self.parameters()), self.training)
        copy_dense_parameters(self, dense, self.ranks)
        return dense

    def _gates(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        if name in self.ranks:
            x = F.linear(x, getattr(self, f"{name}_V"))
            name = f"{name}_U"
        return F.linear(x, getattr(self, name), bias)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """input (B, in) or (in); hx = (h, c), each (B, H) or (H), zeros if None -> (h, c).

        Raises:
            ValueError, RuntimeError: wrong number of dimensions or sizes.
        """
        if input.dim() not in (1, 2):
            raise ValueError(
                f"LowRankLSTMCell: expected input to be 1D or 2D, got {input.dim()}D instead"
            )
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(-1)}, "
                f"expected {self.input_size}"
            )
        expected = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            zeros = input.new_zeros(expected)
            h, c = zeros, zeros
        else:
            h, c = hx
            for n, state in enumerate(hx):
                if state.shape != expected:
                    raise RuntimeError(
                        f"Expected hx[{n}] size {expected}, got {tuple(state.shape)}"
                    )
        gates = self._gates(input, "weight_ih", self.bias_ih)
        gates = gates + self._gates(h, "weight_hh", self.bias_hh)
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}, ranks={self.ranks}"
