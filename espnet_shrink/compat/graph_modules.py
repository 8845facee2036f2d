"""ESPnet's encoder, CTC head and decoder for one unpadded utterance, without what stops a trace.

Facts used here:
- The RNN encoders pack their input and make lengths in Python; one utterance needs neither.
- `make_pad_mask` turns lengths into Python numbers, which a trace would freeze. Encoders look it
  up in their own module.
- Positional encodings are tables of 5000 frames that are not in the checkpoint. Without a table a
  module makes one of the length of its input.
- What the convolutions of an encoder cannot take is refused with `TooShortUttError`.
- Attentions of the RNN decoder keep the projected encoder output and the padding mask.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def _length(x: Tensor) -> Tensor:
    """(1,) int64: the frames of (1, T, D), as a tensor also in a trace."""
    return torch._shape_as_tensor(x)[1:2]


class RNNEncoderGraph(nn.Module):
    """ESPnet's RNNEncoder (RNNP or RNN), in the way of `RNNP.forward` with one utterance."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (1, T, F) -> encoded (1, T', D), its length (1,)."""
        x = features
        for block in self.encoder.enc:
            x = self._projected(block, x) if self.encoder.use_projection else self._plain(block, x)
        return x, _length(x)

    def _projected(self, block: Any, x: Tensor) -> Tensor:
        for layer in range(block.elayers):
            rnn = getattr(block, ("birnn" if block.bidir else "rnn") + str(layer))
            x = rnn(x)[0]
            step = int(block.subsample[layer + 1])
            if step > 1:
                # ESPnet counts (T + 1) // step frames and drops what else was taken.
                x = x[:, ::step][:, : (x.size(1) + 1) // step]
            x = getattr(block, f"bt{layer}")(x)
            if layer < block.elayers - 1:
                x = torch.tanh(x)
        return x

    def _plain(self, block: Any, x: Tensor) -> Tensor:
        return torch.tanh(block.l_last(block.nbrnn(x)[0]))


class MaskedEncoderGraph(nn.Module):
    """An encoder that masks padding by `make_pad_mask`: ESPnet's own forward, traceable."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (1, T, F) -> encoded (1, T', D), its length (1,)."""
        _forget_positions(self.encoder)
        with _traceable_masks(self.encoder):
            encoded, length, _ = self.encoder(features, _length(features))
        if isinstance(encoded, tuple):  # intermediate outputs ride along
            encoded = encoded[0]
        return encoded, length


def shortest_frames(encoder: MaskedEncoderGraph, width: int) -> int:
    """The fewest frames of features (1, T, width) that ESPnet's encoder takes."""
    too_short = sys.modules[type(encoder.encoder).__module__].TooShortUttError
    frames = 1
    while True:
        try:
            encoder(torch.zeros(1, frames, width))
        except too_short:
            frames += 1
        else:
            return frames


class CTCGraph(nn.Module):
    """The CTC head."""

    def __init__(self, ctc: Any) -> None:
        super().__init__()
        self.ctc = ctc

    def forward(self, encoded: Tensor) -> Tensor:
        """encoded (1, T', D) -> log-probabilities (1, T', V)."""
        log_probs: Tensor = self.ctc.log_softmax(encoded)
        return log_probs


class RNNDecoderStep(nn.Module):
    """One step of ESPnet's RNNDecoder, through its own `score`."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, token: Tensor, h: Tensor, c: Tensor, attention: Tensor, encoded: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The previous token (1,) and state to the next one's log-probabilities (1, V).

        Args:
            token: the sos symbol at first.
            h, c: (layers, 1, H), zeros at first.
            attention: (1, T'), 1 / T' at first.
            encoded: (1, T', D).
        """
        own = self.decoder.att_list[0]
        own.reset()
        own.mask = torch.zeros_like(attention, dtype=torch.bool)
        layers = self.decoder.dlayers
        state = {
            "z_prev": [h[i] for i in range(layers)], "c_prev": [c[i] for i in range(layers)],
            "a_prev": attention, "workspace": (0, [None] * layers, [None] * layers),
        }  # fmt: skip
        log_probs, new = self.decoder.score(token, state, encoded[0])
        h, c = torch.stack(new["z_prev"]), torch.stack(new["c_prev"])
        return log_probs[None], h, c, new["a_prev"]


class TransformerDecoderStep(nn.Module):
    """ESPnet's TransformerDecoder on a whole prefix, without a cache."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, encoded: Tensor) -> Tensor:
        """tokens (1, L), from sos on, and encoded (1, T', D) -> log-probabilities (1, V)."""
        _forget_positions(self.decoder)
        steps = torch.arange(tokens.size(1))
        past = (steps[None, :] <= steps[:, None])[None]
        log_probs: Tensor = self.decoder.forward_one_step(tokens, past, encoded)[0]
        return log_probs


def _forget_positions(module: nn.Module) -> None:
    for each in module.modules():
        if hasattr(each, "extend_pe"):
            setattr(each, "pe", None)  # noqa: B010  (mypy takes it for a parameter)


@contextlib.contextmanager
def _traceable_masks(encoder: nn.Module) -> Iterator[None]:
    own: Any = sys.modules[type(encoder).__module__]
    original = own.make_pad_mask

    def make_pad_mask(lengths: Tensor) -> Tensor:
        frames: Any = lengths[0]
        return torch.arange(frames)[None] >= lengths[:, None]

    own.make_pad_mask = make_pad_mask
    try:
        yield
    finally:
        own.make_pad_mask = original
