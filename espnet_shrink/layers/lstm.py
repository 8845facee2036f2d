"""The LSTM with a rank per matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers.factors import (
    Factors,
    add_matrix,
    allocate_like,
    check_names,
    copy_dense_parameters,
    copy_lstm_parameters,
    dense_matrix,
    reset_lstm_parameters,
)
from espnet_shrink.layers.fused import Direction, State, lstm_forward, packed_lstm_forward


class LowRankLSTM(nn.Module):
    """Drop-in for torch.nn.LSTM without projection; each matrix is dense or a product U V.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional:
            as torch.nn.LSTM (H = hidden_size).
        ranks: torch's parameter name (weight_ih_l0, weight_hh_l0_reverse, ...) -> rank r;
            a matrix left out stays dense.
    State dict:
        torch's names; a factored NAME is NAME_U (4H, r) and NAME_V (r, in or H).
    Raises:
        ShrinkError: rank out of range or a name that is no matrix of this LSTM.
    """

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.ranks = dict(ranks or {})
        suffixes = ("", "_reverse") if bidirectional else ("",)
        self._suffixes = [[f"_l{layer}{s}" for s in suffixes] for layer in range(num_layers)]
        known = [
            f"weight_{kind}{s}" for layer in self._suffixes for s in layer for kind in ("ih", "hh")
        ]
        check_names(self.ranks, known, "ranks")
        columns = input_size
        for layer in self._suffixes:
            for s in layer:
                for name, width in ((f"weight_ih{s}", columns), (f"weight_hh{s}", hidden_size)):
                    add_matrix(self, name, (4 * hidden_size, width), self.ranks.get(name))
                for name in (f"bias_ih{s}", f"bias_hh{s}") if bias else ():
                    self.register_parameter(name, nn.Parameter(torch.empty(4 * hidden_size)))
            columns = hidden_size * len(suffixes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch's LSTM initialisation; a product has the variance of the dense matrix."""
        reset_lstm_parameters(self, self.hidden_size, self.ranks)

    @classmethod
    def from_dense(
        cls, module: nn.LSTM, ranks: Mapping[str, int], factors: Factors | None = None
    ) -> LowRankLSTM:
        """Factor a dense LSTM; device, dtype and training mode follow it.

        Args:
            ranks: as in the constructor.
            factors: name -> (U (4H, r), V (r, in)); a truncated, balanced SVD where missing.
        Raises:
            ShrinkError: LSTM with a projection, unknown name, rank out of range or factors of
                another shape.
        """
        if module.proj_size:
            raise ShrinkError("an LSTM with proj_size > 0 cannot be factorised; leave it dense")
        check_names(factors or {}, ranks, "factors")
        with torch.device("meta"):
            new = cls(ranks=ranks, **_options(module))
        allocate_like(new, next(module.parameters()), module.training)
        copy_lstm_parameters(module, new, new.ranks, factors)
        return new

    def to_dense(self) -> nn.LSTM:
        """The same map as torch.nn.LSTM, factors multiplied out."""
        with torch.device("meta"):
            dense = nn.LSTM(**_options(self))
        allocate_like(dense, next(self.parameters()), self.training)
        copy_dense_parameters(self, dense, self.ranks)
        dense.flatten_parameters()
        return dense

    def flatten_parameters(self) -> None:
        """Do nothing: cuDNN's flat buffer cannot hold products, which are new in every call."""

    def _direction(self, s: str) -> Direction:
        biases = (getattr(self, f"bias_ih{s}"), getattr(self, f"bias_hh{s}")) if self.bias else ()
        w_hh = dense_matrix(self, f"weight_hh{s}", self.ranks)
        name = f"weight_ih{s}"
        if name in self.ranks:
            u, v = getattr(self, f"{name}_U"), getattr(self, f"{name}_V")
            return Direction(u, w_hh, biases, v)
        return Direction(getattr(self, name), w_hh, biases)

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """As torch.nn.LSTM.

        Args:
            input: (T, B, in), (B, T, in) if batch_first, (T, in) unbatched, or packed.
            hx: h and c, each (num_layers * directions, B, H), without B if unbatched.
        Returns:
            output of the same kind with H * directions features, and (h_n, c_n).
        Raises:
            RuntimeError, ValueError: sizes or dtypes that do not fit, as torch.nn.LSTM.
        """
        layers = [[self._direction(s) for s in layer] for layer in self._suffixes]
        dropout = self.dropout if self.training else 0.0
        if isinstance(input, PackedSequence):
            return packed_lstm_forward(layers, input, hx, dropout)
        if input.dim() == 2:
            if hx is not None:
                hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            y, (h_n, c_n) = lstm_forward(layers, input.unsqueeze(1), hx, dropout)
            return y.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        if input.dim() != 3:
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        if not self.batch_first:
            return lstm_forward(layers, input, hx, dropout)
        y, state = lstm_forward(layers, input.transpose(0, 1), hx, dropout)
        return y.transpose(0, 1), state

    def extra_repr(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in _options(self).items())
        return f"{options}, ranks={self.ranks}"


def _options(module: nn.LSTM | LowRankLSTM) -> dict:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    return {name: getattr(module, name) for name in (*names, "bidirectional")}
