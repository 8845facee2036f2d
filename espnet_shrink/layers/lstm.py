"""The LSTM with a rank per matrix."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.layers.factors import stored_matrix
from espnet_shrink.layers.fused import Direction, lstm_forward, packed_lstm_forward
from espnet_shrink.layers.inference import cell, few_rows
from espnet_shrink.layers.recurrent import LowRankRecurrent, States
from espnet_shrink.layers.steps import lstm_step


class LowRankLSTM(LowRankRecurrent, nn.LSTM):  # type: ignore[misc]
    """Drop-in for torch.nn.LSTM without projection; see LowRankRecurrent."""

    dense = nn.LSTM
    gates = 4
    state_count = 2
    mode = "LSTM"

    def _step(self, from_input: Tensor, from_state: Tensor, states: States) -> States:
        return lstm_step(from_input, from_state, states[1])

    def _frame(self, s: str, x: Tensor, states: States) -> States:
        ih, hh = self._factors(f"weight_ih{s}"), self._factors(f"weight_hh{s}")
        if few_rows(x, *states, ih[0], hh[0]):
            return cell(x, states[0], states[1], ih, hh, self._biases(s))
        return super()._frame(s, x, states)

    def _sequence(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        return lstm_forward(self._directions(), x, (states[0], states[1]), self._dropout())

    def _packed(
        self, packed: PackedSequence, states: States | None
    ) -> tuple[PackedSequence, States]:
        hx = None if states is None else (states[0], states[1])
        return packed_lstm_forward(self._directions(), packed, hx, self._dropout())

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0

    def _directions(self) -> list[list[Direction]]:
        return [[self._direction(s) for s in layer] for layer in self._suffixes]

    def _direction(self, s: str) -> Direction:
        biases = tuple(bias for bias in self._biases(s) if bias is not None)
        w_ih, v_ih = self._factors(f"weight_ih{s}")
        w_hh, v_hh = self._factors(f"weight_hh{s}")
        return Direction(w_ih, w_hh, biases, v_ih, v_hh)

    def _factors(self, name: str) -> tuple[Tensor, Tensor | None]:
        return stored_matrix(self, name, self.ranks)
