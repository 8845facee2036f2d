"""Any decoder of ESPnet's ScorerInterface, one utterance at a time (Whisper, S4, ...)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt


def greedy(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """The best token at each step, until the end symbol or T' tokens."""
    return [
        _one(model, rows[:length], prompt)
        for rows, length, prompt in zip(encoded, lengths.tolist(), prompts, strict=True)
    ]


def _one(model: SpeechModel, encoded: torch.Tensor, prompt: Prompt) -> list[int]:
    ys, first = list(prompt.first), prompt.first
    never = torch.tensor(prompt.never, dtype=torch.long)
    limit = min(len(first) + len(encoded), _positions(model.decoder))
    for module in model.decoder.modules():
        if hasattr(module, "setup_step"):  # S4 keeps matrices made from its weights
            module.setup_step()
    state = model.decoder.init_state(encoded)
    while len(ys) < limit:
        scores, state = model.decoder.score(torch.tensor(ys), state, encoded)
        best = int(scores.index_fill(0, never, -torch.inf).argmax())
        if best == model.eos:
            break
        ys.append(best)
    # As ESPnet's inference does: id 0, the blank, is no text.
    return [token for token in ys[len(first) :] if token != 0]


def _positions(decoder: Any) -> int:
    """The most tokens that a decoder can read: Whisper's has so many positions."""
    positions = getattr(getattr(decoder, "decoders", None), "positional_embedding", None)
    return sys.maxsize if positions is None else len(positions)


def teach(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]
) -> None:
    """Teacher forcing, as in training, but never by the decoder's own tokens at random."""
    given = torch.tensor([list(tokens)[: _positions(model.decoder)]])
    probability = getattr(model.decoder, "sampling_probability", None)
    if probability:
        model.decoder.sampling_probability = 0.0
    try:
        model.decoder(encoded, lengths, given, torch.tensor([given.shape[1]]))
    finally:
        if probability:
            model.decoder.sampling_probability = probability


def walk(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]
) -> None:
    """A step of decoding for every token, each from those before it, and one for the end symbol."""
    state = model.decoder.init_state(encoded[0])
    for end in range(1, min(len(tokens), _positions(model.decoder)) + 1):
        _, state = model.decoder.score(torch.tensor(tokens[:end]), state, encoded[0])
