"""The GRU with a rank per matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import _VF, Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.layers.inputs import check_input, initial_states, permute
from espnet_shrink.layers.recurrent import LowRankRecurrent, States
from espnet_shrink.layers.steps import gru_step


class LowRankGRU(LowRankRecurrent, nn.GRU):  # type: ignore[misc]
    """Drop-in for torch.nn.GRU; see LowRankRecurrent.

    Sequences run through the library's GRU with the factors multiplied out.
    """

    dense = nn.GRU
    gates = 3
    state_count = 1
    mode = "GRU"

    def _step(self, from_input: Tensor, from_state: Tensor, states: States) -> States:
        return (gru_step(from_input, from_state, states[0]),)

    def _sequence(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        y, h_n = _VF.gru(x, states[0], *self._options(), False)  # type: ignore[call-overload]
        return y, (h_n,)

    def _packed(
        self, packed: PackedSequence, states: States | None
    ) -> tuple[PackedSequence, States]:
        x, batch_sizes, order, back = packed
        check_input(self.mode, x, self._first_matrix())
        (h,) = initial_states(x, self._state_shape(int(batch_sizes[0])), states, 1)
        y, h_n = _VF.gru(x, batch_sizes, permute(h, order), *self._options())
        return PackedSequence(y, batch_sizes, order, back), (permute(h_n, back),)

    def _options(self) -> Any:
        weights = [weight for layer in self.all_weights for weight in layer]
        # "train" also decides whether buffers for the backward pass are kept.
        train = self.training or torch.is_grad_enabled()
        dropout = self.dropout if self.training else 0.0
        return weights, self.bias, self.num_layers, dropout, train, self.bidirectional
