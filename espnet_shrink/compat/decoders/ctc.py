"""CTC heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt

BLANK = 0  # of ESPnet's CTC loss, also where the blank of a transducer is another


def greedy(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """Best path: the best symbol of each frame, repeats merged, blanks dropped."""
    best = model.ctc.argmax(encoded)
    result = []
    for path, length in zip(best, lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length])
        result.append(merged[merged != BLANK].tolist())
    return result


def teach(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]
) -> None:
    """The head alone: CTC reads no text."""
    model.ctc.log_softmax(encoded)
