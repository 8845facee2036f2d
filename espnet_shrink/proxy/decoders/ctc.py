"""CTC heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.text import Prompt


def greedy(
    model: Any, encoded: torch.Tensor, lengths: torch.Tensor, prompt: Prompt
) -> list[list[int]]:
    """Best path: the best symbol of each frame, repeats merged, blanks dropped."""
    best = model.ctc.argmax(encoded)
    result = []
    for path, length in zip(best, lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length])
        result.append(merged[merged != model.blank_id].tolist())
    return result


def teach(model: Any, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]) -> None:
    """The head alone: CTC reads no text."""
    model.ctc.log_softmax(encoded)
