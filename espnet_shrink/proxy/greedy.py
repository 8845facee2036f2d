"""Greedy decoding of many utterances at once, with the hypotheses of ESPnet's beam of one."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

BATCH_FRAMES = 4_000  # padded frames per batch: small enough that little is padding and caches hold


def available_decoders(model: Any) -> list[str]:
    """Which of "ctc" and "attention" can decode with `model` here."""
    names = []
    if getattr(model, "ctc", None) is not None and getattr(model, "ctc_weight", 0.0) > 0.0:
        names.append("ctc")
    if type(getattr(model, "decoder", None)).__name__ == "RNNDecoder" and model.ctc_weight < 1.0:
        names.append("attention")
    return names


def batches(features: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of utterances that go together: longest first, as ESPnet's packing wants."""
    order = sorted(range(len(features)), key=lambda i: -len(features[i]))
    result: list[list[int]] = []
    for i in order:
        if result and len(features[result[-1][0]]) * (len(result[-1]) + 1) <= BATCH_FRAMES:
            result[-1].append(i)
        else:
            result.append([i])
    return result


def decode(
    model: Any, features: Sequence[torch.Tensor], decoders: Sequence[str]
) -> dict[str, list[list[int]]]:
    """Token ids of every utterance, by decoder.

    Batches are shared out over the cores, each on one thread: the kernels are too short for
    several threads to meet after each of them.

    Args:
        model: ESPnet's ASR model in eval mode, on the CPU.
        features: N normalised features, (frames, dims) each.
        decoders: of `available_decoders(model)`.
    """

    @torch.no_grad()  # a setting of the thread, not of the process
    def decode_batch(batch: list[int]) -> dict[str, list[list[int]]]:
        padded = pad_sequence([features[i] for i in batch], batch_first=True)
        encoded = encode(model, padded, torch.tensor([len(features[i]) for i in batch]))
        return {name: DECODERS[name](model, *encoded) for name in decoders}

    result: dict[str, list[list[int]]] = {name: [[]] * len(features) for name in decoders}
    together = batches(features)
    for batch, found in zip(together, _threads().map(decode_batch, together), strict=True):
        for name in decoders:
            for i, tokens in zip(batch, found[name], strict=True):
                result[name][i] = tokens
    return result


@functools.cache
def _threads() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0))
    return ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))


def encode(
    model: Any, features: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, dims) and (B,) to encoder output (B, T', D) and (B,)."""
    if model.preencoder is not None:
        features, lengths = model.preencoder(features, lengths)
    encoded, lengths, _ = model.encoder(features, lengths)
    if isinstance(encoded, tuple):  # intermediate CTC outputs ride along
        encoded = encoded[0]
    if model.postencoder is not None:
        encoded, lengths = model.postencoder(encoded, lengths)
    return encoded, lengths


def ctc_greedy(model: Any, encoded: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    """Best path: the best symbol of each frame, repeats merged, blanks dropped."""
    best = model.ctc.argmax(encoded)
    result = []
    for path, length in zip(best, lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length])
        result.append(merged[merged != model.blank_id].tolist())
    return result


def attention_greedy(model: Any, encoded: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    """The best token at each step of an RNN decoder, until its end symbol or T' tokens."""
    decoder = model.decoder
    attention = copy.copy(decoder.att_list[0])  # shares the weights, not the cached projection
    limits = lengths.tolist()
    alive = list(range(len(encoded)))
    tokens: list[list[int]] = [[] for _ in alive]
    last = torch.full((len(encoded),), model.sos)
    z = [decoder.zero_state(encoded) for _ in range(decoder.dlayers)]
    c = [decoder.zero_state(encoded) for _ in range(decoder.dlayers)]
    weights = None
    attention.reset()
    lengths_alive = limits
    while alive:
        context, weights = attention(encoded, lengths_alive, z[0], weights)
        inputs = torch.cat((decoder.embed(last), context), dim=1)
        z, c = decoder.rnn_forward(inputs, list(z), list(c), z, c)
        out = torch.cat((z[-1], context), dim=-1) if decoder.context_residual else z[-1]
        last = decoder.output(out).argmax(dim=-1)
        running = []
        for row, (i, token) in enumerate(zip(alive, last.tolist(), strict=True)):
            if token != model.eos:
                tokens[i].append(token)
                if len(tokens[i]) < limits[i]:
                    running.append(row)
        if len(running) < len(alive):
            # Rows that ended are dropped, and the attention's cached projection with them.
            keep = torch.tensor(running, dtype=torch.long)
            alive = [alive[row] for row in running]
            lengths_alive = [limits[i] for i in alive]
            frames = max(lengths_alive, default=0)
            encoded, last = encoded[keep, :frames], last[keep]
            z, c = [state[keep] for state in z], [state[keep] for state in c]
            weights = None if weights is None else weights[keep, :frames]
            attention.reset()
    # As ESPnet's inference does: id 0, the blank, is no text.
    return [[token for token in sequence if token != 0] for sequence in tokens]


DECODERS = {"ctc": ctc_greedy, "attention": attention_greedy}
