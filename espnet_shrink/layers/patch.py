"""Fast packed LSTMs on a CPU for code that uses torch.nn.LSTM."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.layers.fused import padded_lstm_forward


def use_padded_lstm() -> None:
    """Make torch.nn.LSTM run packed CPU input through padded_lstm_forward, in this process.

    Same numbers, many times faster. Any other input, and LSTMs with a projection, go to
    torch's own forward. Calling it again changes nothing. torch.jit.script cannot compile the
    patched forward: script before patching.
    """
    original = nn.LSTM.forward
    if getattr(original, "runs_padded", False):
        return

    @functools.wraps(original)
    def forward(self: nn.LSTM, input: Any, hx: Any = None) -> Any:
        packed = isinstance(input, PackedSequence)
        if packed and input.data.device.type == "cpu" and not self.proj_size:
            return padded_lstm_forward(self, input, hx)
        return original(self, input, hx)

    forward.runs_padded = True  # type: ignore[attr-defined]
    nn.LSTM.forward = forward  # type: ignore[method-assign]
