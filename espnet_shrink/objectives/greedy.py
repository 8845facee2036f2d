"""Greedy decoding of many utterances at once, with the hypotheses of ESPnet's beam of one."""

from __future__ import annotations

import copy
import os
import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch

from espnet_shrink.compat.decoders import Decoder
from espnet_shrink.compat.encoder import encode_batch
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt

Encoded = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""The first utterance of a batch -> encoder output (B, T', D), padded, and lengths (B)."""

ENCODER = "encoder"
BATCH_FRAMES = 4_000  # padded frames per batch: small enough that little is padding and caches hold


class BatchFailed(Exception):
    """Decoding the utterances at `indices` raised `reason`."""

    def __init__(self, indices: list[int], reason: Exception) -> None:
        super().__init__(indices, reason)
        self.indices, self.reason = indices, reason


def batches(features: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of utterances that go together: longest first, as ESPnet's packing wants.

    Those without frames are in none.
    """
    heard = (i for i, given in enumerate(features) if len(given))
    order = sorted(heard, key=lambda i: -len(features[i]))
    result: list[list[int]] = []
    for i in order:
        if result and len(features[result[-1][0]]) * (len(result[-1]) + 1) <= BATCH_FRAMES:
            result[-1].append(i)
        else:
            result.append([i])
    return result


def views_of(model: SpeechModel, cores: int | None = None) -> list[Any]:
    """The model once for every core: modules of their own, over the same weights.

    ESPnet's modules keep things in themselves while they run (attention weights, positions), so
    no two threads may share one. And RNNP drops out in eval mode too, which a view does not.

    Args:
        cores: None: all that this process has.
    """
    shared = [*model.parameters(), *model.buffers()]
    views = []
    for _ in range(cores or _cores()):
        view: Any = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
        for module in view.modules():
            if type(module).__name__ == "RNNP":
                module.dropout = 0.0
        views.append(view)
    return views


def threads_of(views: Sequence[Any]) -> ThreadPoolExecutor:
    """A thread for every view, each on one core."""
    return ThreadPoolExecutor(len(views), initializer=torch.set_num_threads, initargs=(1,))


def decode(
    views: Sequence[Any],
    threads: ThreadPoolExecutor,
    features: Sequence[torch.Tensor],
    decoders: Sequence[Decoder],
    prompts: Sequence[Prompt],
    kept: Encoded,
    seconds: dict[str, float] | None = None,
) -> dict[str, list[list[int]]]:
    """Token ids of every utterance, by decoder.

    Batches are shared out over the cores, each on one thread: the kernels are too short for
    several threads to meet after each of them. When this returns or raises, no view is in use.

    Args:
        views: of `views_of`, a model of ESPnet's speech tasks in eval mode, on the CPU.
        threads: of `threads_of(views)`.
        features: N normalised features, (frames, dims) each; of one without frames nothing is
            recognised.
        decoders: of `decoders_of(model)`.
        prompts: what the decoding of each of the N starts from.
        kept: encoder outputs; what it lacks is computed and put there.
        seconds: what is spent by each decoder, and by the encoder under its own name, is added.

    Raises:
        BatchFailed: a batch could not be decoded.
    """

    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    spent: list[dict[str, float]] = []
    for view in views:
        free.put(view)

    @torch.no_grad()  # a setting of the thread, not of the process
    def decode_batch(batch: list[int]) -> dict[str, list[list[int]]]:
        model = free.get()
        try:
            began = time.perf_counter()
            if batch[0] not in kept:
                kept[batch[0]] = encode_batch(model, [features[i] for i in batch])
            asked, found = [prompts[i] for i in batch], {}
            times = {ENCODER: time.perf_counter() - began}
            for decoder in decoders:
                began = time.perf_counter()
                found[decoder.name] = decoder.greedy(model, *kept[batch[0]], asked)
                times[decoder.name] = time.perf_counter() - began
            spent.append(times)
            return found
        except Exception as error:
            raise BatchFailed(batch, error) from error
        finally:
            free.put(model)

    result: dict[str, list[list[int]]] = {d.name: [[]] * len(features) for d in decoders}
    together = batches(features)
    futures = [threads.submit(decode_batch, batch) for batch in together]
    try:
        for batch, future in zip(together, futures, strict=True):
            for name, sequences in future.result().items():
                for i, tokens in zip(batch, sequences, strict=True):
                    result[name][i] = tokens
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    if seconds is not None:
        for times in spent:
            for name, took in times.items():
                seconds[name] = seconds.get(name, 0.0) + took
    return result


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), torch.get_num_threads())
