"""What LowRankLSTM and LowRankGRU share: a stack of layers with a rank per matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers.factors import (
    Factors,
    add_matrix,
    allocate_like,
    check_names,
    copy_dense_parameters,
    copy_parameters,
    dense_matrix,
    multiply,
    reset_parameters,
)
from espnet_shrink.layers.inputs import check_input, initial_states

States = tuple[Tensor, ...]
"""h, and c of an LSTM, each (num_layers * directions, B, H)."""


class LowRankRecurrent(nn.Module):
    """Base of the drop-ins for torch's recurrent layers; each matrix is dense or a product U V.

    A subclass also inherits from the torch class that it replaces, since ESPnet's language model
    asks for it by isinstance; nothing of torch's class is used.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional:
            as in torch (H = hidden_size).
        ranks: torch's parameter name (weight_ih_l0, weight_hh_l0_reverse, ...) -> rank r;
            a matrix left out stays dense.
    State dict:
        torch's names; a factored NAME is NAME_U (gates H, r) and NAME_V (r, in or H).
    Raises:
        ShrinkError: rank out of range or a name that is no matrix of this layer.
    """

    dense: ClassVar[Any]
    gates: ClassVar[int]
    state_count: ClassVar[int]
    mode: str
    proj_size = 0

    # torch's class keeps a flat list of its weights in step with them; here there is none.
    _apply = nn.Module._apply
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel
    __getstate__ = object.__getstate__
    __setstate__ = nn.Module.__setstate__

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
        nn.Module.__init__(self)
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
        rows, columns = self.gates * hidden_size, input_size
        for layer in self._suffixes:
            for s in layer:
                for name, width in ((f"weight_ih{s}", columns), (f"weight_hh{s}", hidden_size)):
                    add_matrix(self, name, (rows, width), self.ranks.get(name))
                for name in (f"bias_ih{s}", f"bias_hh{s}") if bias else ():
                    self.register_parameter(name, nn.Parameter(torch.empty(rows)))
            columns = hidden_size * len(suffixes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch's initialisation; a product has the variance of the dense matrix."""
        reset_parameters(self, self.hidden_size, self.ranks)

    @classmethod
    def from_dense(
        cls, module: Any, ranks: Mapping[str, int], factors: Factors | None = None
    ) -> Any:
        """Factor a dense layer; device, dtype and training mode follow it.

        Args:
            ranks: as in the constructor.
            factors: name -> (U (gates H, r), V (r, in)); a truncated, balanced SVD where missing.
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
        copy_parameters(module, new, new.ranks, factors)
        return new

    def to_dense(self) -> Any:
        """The same map as torch's layer, factors multiplied out."""
        with torch.device("meta"):
            dense = self.dense(**_options(self))
        allocate_like(dense, next(self.parameters()), self.training)
        copy_dense_parameters(self, dense, self.ranks)
        dense.flatten_parameters()
        return dense

    def flatten_parameters(self) -> None:
        """Do nothing: cuDNN's flat buffer cannot hold products, which are new in every call."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """As in torch: per layer and direction w_ih, w_hh and biases, factors multiplied out."""
        return [
            [dense_matrix(self, f"weight_{kind}{s}", self.ranks) for kind in ("ih", "hh")]
            + [bias for bias in self._biases(s) if bias is not None]
            for layer in self._suffixes
            for s in layer
        ]

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None
    ) -> tuple[Tensor | PackedSequence, Any]:
        """As torch's layer.

        Args:
            input: (T, B, in), (B, T, in) if batch_first, (T, in) unbatched, or packed.
            hx: h, or (h, c) of an LSTM, each (num_layers * directions, B, H), without B if
                unbatched.
        Returns:
            output of the same kind with H * directions features, and the final hx.
        Raises:
            RuntimeError, ValueError: sizes or dtypes that do not fit, as in torch.
        """
        states = (hx,) if isinstance(hx, Tensor) else hx
        if isinstance(input, PackedSequence):
            output, states = self._packed(input, states)
            return output, self._as_hx(states)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{self.mode}: Expected input to be 2D or 3D, got {input.dim()}D instead"
            )
        batched = input.dim() == 3
        if not batched:
            x = input.unsqueeze(1)
            states = None if states is None else tuple(state.unsqueeze(1) for state in states)
        else:
            x = input.transpose(0, 1) if self.batch_first else input
        check_input(self.mode, x, self._first_matrix())
        states = initial_states(x, self._state_shape(x.size(1)), states, self.state_count)
        run = self._one_frame if len(x) == 1 else self._sequence
        y, states = run(x, states)
        if not batched:
            return y.squeeze(1), self._as_hx(tuple(state.squeeze(1) for state in states))
        return y.transpose(0, 1) if self.batch_first else y, self._as_hx(states)

    def _one_frame(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        # Beam search feeds a token at a time: the factors are cheaper than their product then.
        x = x[0]
        after: list[States] = []
        for number, layer in enumerate(self._suffixes):
            if number:
                x = F.dropout(x, self.dropout, self.training)
            for s in layer:
                after.append(self._frame(s, x, tuple(state[len(after)] for state in states)))
            x = torch.cat([state[0] for state in after[-len(layer) :]], -1)
        return x[None], tuple(torch.stack(parts) for parts in zip(*after, strict=True))

    def _frame(self, s: str, x: Tensor, states: States) -> States:
        """One layer and direction, called `s`: x (B, in), states (B, H) -> the states after."""
        b_ih, b_hh = self._biases(s)
        from_input = multiply(self, f"weight_ih{s}", self.ranks, x, b_ih)
        from_state = multiply(self, f"weight_hh{s}", self.ranks, states[0], b_hh)
        return self._step(from_input, from_state, states)

    def _first_matrix(self) -> Tensor:
        factored = "weight_ih_l0" in self.ranks
        return getattr(self, "weight_ih_l0_V" if factored else "weight_ih_l0")

    def _biases(self, s: str) -> tuple[Tensor | None, Tensor | None]:
        if not self.bias:
            return None, None
        return getattr(self, f"bias_ih{s}"), getattr(self, f"bias_hh{s}")

    def _state_shape(self, batch: int) -> tuple[int, int, int]:
        return self.num_layers * (2 if self.bidirectional else 1), batch, self.hidden_size

    def _as_hx(self, states: States) -> Any:
        return states if self.state_count > 1 else states[0]

    def _step(self, from_input: Tensor, from_state: Tensor, states: States) -> States:
        """The states after a frame, from both products (B, gates H) and the states before."""
        raise NotImplementedError

    def _sequence(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """x (T, B, in), checked -> (T, B, H * directions) and the final states."""
        raise NotImplementedError

    def _packed(
        self, packed: PackedSequence, states: States | None
    ) -> tuple[PackedSequence, States]:
        """The same for packed frames, unchecked; states are in the caller's order."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in _options(self).items())
        return f"{options}, ranks={self.ranks}"


def _options(module: Any) -> dict[str, Any]:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    return {name: getattr(module, name) for name in (*names, "bidirectional")}
