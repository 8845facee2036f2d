"""Transformer decoders, batched over utterances."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.decoders.alive import running, without_blanks
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt


def takes_a_mask(decoder: Any) -> bool:
    """Whether its steps can leave out the padding of a batch of encoder outputs."""
    step = getattr(decoder, "forward_one_step", None)
    return step is not None and "memory_mask" in inspect.signature(step).parameters


def greedy(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """The best token at each step, until the end symbol or T' tokens."""
    limits = lengths.tolist()
    never = torch.tensor(prompts[0].never, dtype=torch.long)
    mask = (torch.arange(encoded.size(1)) < lengths[:, None])[:, None, :]
    ys = torch.tensor([prompt.first for prompt in prompts])
    cache = None
    alive = list(range(len(encoded)))
    tokens: list[list[int]] = [[] for _ in alive]
    while alive:
        seen = torch.ones(ys.size(1), ys.size(1), dtype=torch.bool).tril()[None]
        scores, cache = model.decoder.forward_one_step(
            ys, seen, encoded, memory_mask=mask, cache=cache
        )
        best = scores.index_fill(1, never, -torch.inf).argmax(dim=-1)
        ys = torch.cat((ys, best[:, None]), dim=1)
        rows = running(best, alive, tokens, limits, model.eos)
        if len(rows) < len(alive):
            alive = [alive[row] for row in rows]
            frames = max((limits[i] for i in alive), default=0)
            encoded, mask = encoded[rows, :frames], mask[rows, :, :frames]
            ys, cache = ys[rows], [states[rows] for states in cache]
    return without_blanks(tokens)
