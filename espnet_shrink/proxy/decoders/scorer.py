"""Any decoder of ESPnet's ScorerInterface, one utterance at a time (Whisper, S4, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.text import Prompt


def greedy(
    model: Any, encoded: torch.Tensor, lengths: torch.Tensor, prompt: Prompt
) -> list[list[int]]:
    """The best token at each step, until the end symbol or T' tokens."""
    return [
        _one(model, rows[:length], prompt)
        for rows, length in zip(encoded, lengths.tolist(), strict=True)
    ]


def _one(model: Any, encoded: torch.Tensor, prompt: Prompt) -> list[int]:
    ys, first = list(prompt.first), prompt.first
    never = torch.tensor(prompt.never, dtype=torch.long)
    state = model.decoder.init_state(encoded)
    while len(ys) - len(first) < len(encoded):
        scores, state = model.decoder.score(torch.tensor(ys), state, encoded)
        best = int(scores.index_fill(0, never, -torch.inf).argmax())
        if best == model.eos:
            break
        ys.append(best)
    # As ESPnet's inference does: id 0, the blank, is no text.
    return [token for token in ys[len(first) :] if token != 0]


def teach(model: Any, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]) -> None:
    """Teacher forcing, as in training."""
    given = torch.tensor([list(tokens)])
    model.decoder(encoded, lengths, given, torch.tensor([given.shape[1]]))


def walk(model: Any, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]) -> None:
    """A step of decoding for every token, each from those before it, and one for the end symbol."""
    state = model.decoder.init_state(encoded[0])
    for end in range(1, len(tokens) + 1):
        _, state = model.decoder.score(torch.tensor(tokens[:end]), state, encoded[0])
