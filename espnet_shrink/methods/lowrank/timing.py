"""How long one call of a weight matrix takes, dense and factored: measured on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from espnet_shrink.layers import (
    LowRankConv,
    LowRankGRU,
    LowRankGRUCell,
    LowRankLinear,
    LowRankLSTM,
    LowRankLSTMCell,
)
from espnet_shrink.plan import DENSE, Rank, Site

INPUT_SIZE = 8  # of a layer whose recurrence is timed: its input matrix costs next to nothing
RANKS = 7  # measured of a matrix
TURNS = 5
SHORTEST_S = 1e-3  # of a turn
LONGEST_S = 1.0  # of all turns, but for the fewest that there must be
FEWEST_TURNS = 3

Call = Callable[[], object]
LAYERS: dict[str, Any] = {
    "lstm": (nn.LSTM, LowRankLSTM),
    "gru": (nn.GRU, LowRankGRU),
    "cell": (nn.LSTMCell, LowRankLSTMCell),
    "gru_cell": (nn.GRUCell, LowRankGRUCell),
}


def is_recurrent(site: Site) -> bool:
    """Whether its rows go through one after the other."""
    return site.kind in ("lstm_recurrent", "gru_recurrent")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inference on one thread of torch's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def measure(site: Site, rows: int) -> dict[Rank, float]:
    """Rank -> seconds of one call with `rows` input vectors; ranks ascend, and so do seconds.

    What runs is what would in a model: a layer, or its factored twin. Matrices of a recurrent
    layer are timed apart, as what they add to it.
    """
    top = max(site.largest_useful_rank, 1)
    ranks: list[Rank] = sorted({round(float(r)) for r in np.geomspace(min(4, top), top, RANKS)})
    with one_thread():
        pairs = [_calls(site, rows, rank) for rank in [DENSE, *ranks]]
        taken = least_seconds([call for pair in pairs for call in pair if call is not None])
    left = iter(taken)
    whole, *factored = [
        next(left) - (next(left) if without is not None else 0.0) for _, without in pairs
    ]
    rising = np.maximum.accumulate(np.maximum(factored, SMALLEST_S)).tolist()
    found: dict[Rank, float] = {DENSE: max(whole, SMALLEST_S)}
    found.update(zip(ranks, rising, strict=True))
    return found


SMALLEST_S = 1e-7  # a difference of two measured times may come out below zero


def _calls(site: Site, rows: int, rank: Rank) -> tuple[Call, Call | None]:
    """A call with the matrix and, where that does more, the same without."""
    out, width = site.shape
    layer, _, matrix = site.kind.rpartition("_")
    if layer not in LAYERS:
        return (_pointwise if site.kind == "pointwise_conv" else _linear)(site, rows, rank), None
    if "cell" in layer:
        gates = 3 if layer.startswith("gru") else 4
        x = torch.randn(rows, width if matrix == "input" else INPUT_SIZE)
        if matrix == "recurrent":
            return _cell(layer, x, width, {"weight_hh": rank}), None
        small = torch.randn(rows, INPUT_SIZE)
        return (
            _cell(layer, x, out // gates, {"weight_ih": rank}),
            # Of the same kind, dense: a factored cell takes another way through.
            _cell(layer, small, out // gates, {} if rank == DENSE else {"weight_ih": 1}),
        )
    if matrix == "recurrent":
        return _recurrence(layer, rows, width, rank), None
    return _product(site, rows, rank), None


def _linear(site: Site, rows: int, rank: Rank) -> Call:
    out, width = site.shape
    x = torch.randn(1, rows, width)
    module = nn.Linear(width, out) if rank == DENSE else LowRankLinear(width, out, int(rank))
    return lambda: module(x)


def _pointwise(site: Site, rows: int, rank: Rank) -> Call:
    out, width = site.shape
    x, dense = torch.randn(1, width, rows), nn.Conv1d(width, out, 1)
    module = dense if rank == DENSE else LowRankConv.from_dense(dense, int(rank))
    return lambda: module(x)


def _product(site: Site, rows: int, rank: Rank) -> Call:
    """A product within a layer."""
    out, width = site.shape
    x = torch.randn(rows, width)
    if rank == DENSE:
        weight = torch.randn(out, width)
        return lambda: F.linear(x, weight)
    u, v = torch.randn(out, int(rank)), torch.randn(int(rank), width)
    return lambda: F.linear(F.linear(x, v), u)


def _recurrence(layer: str, rows: int, hidden: int, rank: Rank) -> Call:
    dense, low_rank = LAYERS[layer]
    x = torch.randn(rows, 1, INPUT_SIZE)
    if rank == DENSE:
        module = dense(INPUT_SIZE, hidden)
    else:
        module = low_rank(INPUT_SIZE, hidden, ranks={"weight_hh_l0": int(rank)})
    return lambda: module(x)


def _cell(layer: str, x: torch.Tensor, hidden: int, ranks: dict[str, Rank]) -> Call:
    dense, low_rank = LAYERS[layer]
    factored = {name: int(rank) for name, rank in ranks.items() if rank != DENSE}
    module = (low_rank if factored else dense)(x.size(1), hidden, **(
        {"ranks": factored} if factored else {}
    ))  # fmt: skip
    state = torch.zeros(len(x), hidden)
    given = state if layer.startswith("gru") else (state, state)
    return lambda: module(x, given)


def least_seconds(calls: Sequence[Call], turns: int = TURNS) -> list[float]:
    """Of each call: the least of turns that all of them take, in time of this thread's processor.

    On an idle machine that is all the time there is. What other processes do in between is left
    out, and what they take of caches makes a turn longer, never shorter.
    """
    times = [_time(call, 2) for call in calls]
    repeats = [max(1, int(SHORTEST_S / seconds)) for seconds in times]
    once = sum(max(SHORTEST_S, seconds) for seconds in times)
    for _ in range(min(turns, max(FEWEST_TURNS, int(LONGEST_S / once)))):
        for i, (call, often) in enumerate(zip(calls, repeats, strict=True)):
            times[i] = min(times[i], _time(call, often))
    return times


def _time(call: Call, often: int) -> float:
    call()
    start = time.thread_time()
    for _ in range(often):
        call()
    return (time.thread_time() - start) / often
