"""ESPnet's RNN decoder with a row for every hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnet_shrink.compat.decoders.rnn import decode_step, kept


@dataclass(frozen=True)
class Rows:
    """Its states after a step.

    Attributes:
        z, c: of every layer (n, units).
        attention: what the attention remembers, None before the first step.
    """

    z: list[Tensor]
    c: list[Tensor]
    attention: Any = None

    def select(self, rows: Tensor) -> Rows:
        """Some rows, in another order, some of them several times."""
        return Rows(
            [each[rows] for each in self.z], [each[rows] for each in self.c],
            None if self.attention is None else kept(self.attention, rows),
        )  # fmt: skip


class RNNDecoderRows:
    """Steps of a decoder over one utterance.

    What its attention computes of the encoder's output alone is computed once, and read by all.

    Args:
        decoder: ESPnet's, of one encoder, in eval mode.
        encoded: (T, D).
    """

    def __init__(self, decoder: Any, encoded: Tensor) -> None:
        self.decoder, self.attention = decoder, decoder.att_list[0]
        self.encoded = encoded[None]
        self.lengths = [len(encoded)]
        self.computed: dict[str, Any] | None = None
        self.attention.reset()

    def start(self) -> Rows:
        """Before the first step."""
        layers = range(self.decoder.dlayers)
        return Rows([self.decoder.zero_state(self.encoded) for _ in layers],
                    [self.decoder.zero_state(self.encoded) for _ in layers])  # fmt: skip

    def step(self, tokens: Tensor, before: Rows) -> tuple[Tensor, Rows]:
        """Log probabilities (n, tokens) of what follows `tokens` (n,), and the states after it."""
        decoder, count = self.decoder, len(tokens)
        if self.computed is not None:
            for name, value in self.computed.items():
                setattr(self.attention, name, _expanded(value, count))
        scores, z, c, memory = decode_step(
            decoder, self.encoded.expand(count, -1, -1), self.lengths * count, tokens,
            before.z, before.c, before.attention,
        )  # fmt: skip
        if self.computed is None:
            self.computed = {
                name: value for name, value in vars(self.attention).items() if _is_kept(value)
            }
        return torch.log_softmax(scores, dim=1), Rows(z, c, memory)


def _is_kept(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_kept, value))
    return isinstance(value, Tensor)


def _expanded(value: Any, count: int) -> Any:
    if isinstance(value, list):
        return [_expanded(each, count) for each in value]
    return value.expand(count, *value.shape[1:])
