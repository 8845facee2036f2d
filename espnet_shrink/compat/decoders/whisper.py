"""Whisper's decoder, batched over utterances, with keys and values kept from step to step.

ESPnet's own steps run all of the prefix, and project the encoder's output, anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from espnet_shrink.compat.decoders.alive import running, without_blanks
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt


def is_whisper(decoder: Any) -> bool:
    """Whether a decoder is ESPnet's Whisper."""
    return type(decoder).__name__ == "OpenAIWhisperDecoder"


def greedy(
    model: SpeechModel, encoded: Tensor, lengths: Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """The best token at each step, until the end symbol, T' tokens or the last position."""
    decoder = model.decoder.decoders
    first = prompts[0].first
    last = min(len(decoder.positional_embedding), len(first) + int(lengths.max()))
    limits = [min(last - len(first), length) for length in lengths.tolist()]
    steps = _Steps(decoder, encoded, lengths)
    given = torch.tensor([prompt.first for prompt in prompts])
    never = torch.tensor(prompts[0].never, dtype=torch.long)
    alive = list(range(len(encoded)))
    tokens: list[list[int]] = [[] for _ in alive]
    while alive:
        best = steps(given).index_fill(1, never, -torch.inf).argmax(dim=-1)
        given = best[:, None]
        rows = running(best, alive, tokens, limits, model.eos)
        if len(rows) < len(alive):
            alive = [alive[row] for row in rows]
            given = given[rows]
            steps.keep(rows)
    return without_blanks(tokens)


class _Steps:
    """Scores of the next token, (B, tokens), after those that it is given, (B, n), in turn."""

    def __init__(self, decoder: Any, encoded: Tensor, lengths: Tensor) -> None:
        self.decoder, self.position = decoder, 0
        self.mask = None
        if int(lengths.min()) < encoded.shape[1]:
            self.mask = (torch.arange(encoded.shape[1]) < lengths[:, None])[:, None, None]
        # Of every block: keys and values of the text so far, and of the audio.
        self.text: list[tuple[Tensor, Tensor] | None] = [None] * len(decoder.blocks)
        self.audio = [
            (_heads(b.cross_attn, b.cross_attn.key(encoded)),
             _heads(b.cross_attn, b.cross_attn.value(encoded)))
            for b in decoder.blocks
        ]  # fmt: skip

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the utterances."""
        kept = list(rows)
        self.mask = None if self.mask is None else self.mask[kept]
        self.text = [None if pair is None else (pair[0][kept], pair[1][kept]) for pair in self.text]
        self.audio = [(keys[kept], values[kept]) for keys, values in self.audio]

    def __call__(self, tokens: Tensor) -> Tensor:
        decoder, count = self.decoder, tokens.shape[1]
        positions = decoder.positional_embedding[self.position : self.position + count]
        self.position += count
        x = decoder.token_embedding(tokens) + positions
        for index, block in enumerate(decoder.blocks):
            own = block.attn
            given = block.attn_ln(x)
            keys, values = _heads(own, own.key(given)), _heads(own, own.value(given))
            before = self.text[index]
            if before is not None:
                keys = torch.cat((before[0], keys), dim=2)
                values = torch.cat((before[1], values), dim=2)
            self.text[index] = (keys, values)
            found = scaled_dot_product_attention(
                _heads(own, own.query(given)), keys, values, is_causal=count > 1
            )
            x = x + own.out(_joined(found))
            cross = block.cross_attn
            found = scaled_dot_product_attention(
                _heads(cross, cross.query(block.cross_attn_ln(x))), *self.audio[index],
                attn_mask=self.mask,
            )  # fmt: skip
            x = x + cross.out(_joined(found))
            x = x + block.mlp(block.mlp_ln(x))
        return _scores(decoder.token_embedding, decoder.ln(x[:, -1]))


def _heads(attention: Any, x: Tensor) -> Tensor:
    """(B, n, D) to (B, heads, n, D / heads)."""
    return x.unflatten(-1, (attention.n_head, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _scores(embedding: Any, x: Tensor) -> Tensor:
    """Products with the rows of a table, dense or factorised."""
    if hasattr(embedding, "weight_U"):
        return (x @ embedding.weight_V.T) @ embedding.weight_U.T
    return x @ embedding.weight.T
