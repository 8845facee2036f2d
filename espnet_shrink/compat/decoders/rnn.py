"""RNN decoders with attention, batched over utterances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.decoders.alive import running, without_blanks
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt

BATCHED = {
    "NoAtt", "AttDot", "AttAdd", "AttLoc", "AttLoc2D", "AttLocRec", "AttCov", "AttCovLoc",
    "AttMultiHeadDot", "AttMultiHeadAdd", "AttMultiHeadLoc", "AttMultiHeadMultiResLoc",
}  # fmt: skip


def can_batch(decoder: Any) -> bool:
    """Whether `greedy` knows the state of a decoder's attention; others go one at a time."""
    return type(decoder).__name__ == "RNNDecoder" and type(decoder.att_list[0]).__name__ in BATCHED


def kept(state: Any, rows: torch.Tensor, frames: int | None = None) -> Any:
    """Only some rows of the state of an attention, and only the first frames; None: all.

    Args:
        state: weights (B, T) or (B, window, T); a list of them (of heads, or of the steps so far);
            or, with a recurrent attention, a pair of them and of its state (B, dims) each.
    """
    if isinstance(state, tuple):
        weights, memory = state
        return kept(weights, rows, frames), tuple(each[rows] for each in memory)
    if isinstance(state, list):
        return [kept(each, rows, frames) for each in state]
    return state[rows][..., :frames]


def decode_step(
    decoder: Any,
    encoded: torch.Tensor,
    lengths: list[int],
    last: torch.Tensor,
    z: list[torch.Tensor],
    c: list[torch.Tensor],
    memory: Any,
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor], Any]:
    """Scores (B, tokens) of what follows `last` (B,), before softmax, and the states after it.

    Args:
        encoded: (B, T, D).
        z, c: of every layer (B, units).
        memory: of the attention; None before the first step.
    """
    context, memory = decoder.att_list[0](encoded, lengths, z[0], memory)
    inputs = torch.cat((decoder.embed(last), context), dim=1)
    z, c = decoder.rnn_forward(inputs, list(z), list(c), z, c)
    out = torch.cat((z[-1], context), dim=-1) if decoder.context_residual else z[-1]
    return decoder.output(out), z, c, memory


def greedy(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """The best token at each step of an RNN decoder, until its end symbol or T' tokens."""
    decoder = model.decoder
    attention = decoder.att_list[0]
    limits = lengths.tolist()
    alive = list(range(len(encoded)))
    tokens: list[list[int]] = [[] for _ in alive]
    last = torch.tensor([prompt.first[-1] for prompt in prompts])
    z = [decoder.zero_state(encoded) for _ in range(decoder.dlayers)]
    c = [decoder.zero_state(encoded) for _ in range(decoder.dlayers)]
    weights: Any = None
    attention.reset()
    lengths_alive = limits
    while alive:
        scores, z, c, weights = decode_step(decoder, encoded, lengths_alive, last, z, c, weights)
        last = scores.argmax(dim=-1)
        rows = running(last, alive, tokens, limits, model.eos)
        if len(rows) < len(alive):
            # Rows that ended are dropped, and the attention's cached projection with them.
            keep = torch.tensor(rows, dtype=torch.long)
            alive = [alive[row] for row in rows]
            lengths_alive = [limits[i] for i in alive]
            frames = max(lengths_alive, default=0)
            encoded, last = encoded[keep, :frames], last[keep]
            z, c = [state[keep] for state in z], [state[keep] for state in c]
            weights = kept(weights, keep, frames)
            attention.reset()
            if type(attention).__name__ == "NoAtt":
                weights = None  # else it would miss the mean that it had kept
    return without_blanks(tokens)
