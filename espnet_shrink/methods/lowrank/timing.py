"""How long one call of a weight matrix takes, dense and factored: measured on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from espnet_shrink.layers import LowRankConv, LowRankLinear
from espnet_shrink.methods.lowrank.kinds import Form, LayerKind, kind_of_site, recurs
from espnet_shrink.methods.lowrank.site import Rank
from espnet_shrink.plan import DENSE, Decision

INPUT_SIZE = 8  # of a layer whose recurrence is timed: its input matrix costs next to nothing
RANKS = 7  # measured of a matrix
TURNS = 5
SHORTEST_S = 1e-3  # of a turn
LONGEST_S = 1.0  # of all turns, but for the fewest that there must be
FEWEST_TURNS = 3

Call = Callable[[], object]


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


def measure(site: Decision, rows: int) -> dict[Rank, float]:
    """Rank -> seconds of one call with `rows` input vectors; ranks ascend, and so do seconds.

    What runs is what would in a model: a layer, or its factored twin. Matrices of a recurrent
    layer are timed apart, as what they add to it.
    """
    top = max(site.largest_useful, 1)
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


def _calls(site: Decision, rows: int, rank: Rank) -> tuple[Call, Call | None]:
    """A call with the matrix and, where that does more, the same without."""
    out, width = site.shape
    layer = kind_of_site(site.kind)
    if layer.form is Form.CHANNELS:
        return _pointwise(site, rows, rank), None
    if layer.form is Form.SEQUENCE:
        if recurs(site.kind):
            return _recurrence(layer, rows, width, rank), None
        return _product(site, rows, rank), None
    if layer.form is not Form.CELL:
        return _linear(site, rows, rank), None
    if layer.matrices["weight_hh"] == site.kind:
        x = torch.randn(rows, INPUT_SIZE)
        return _cell(layer, x, width, {"weight_hh": rank}), None
    x, small = torch.randn(rows, width), torch.randn(rows, INPUT_SIZE)
    return (
        _cell(layer, x, out // layer.gates, {"weight_ih": rank}),
        # Of the same kind, dense: a factored cell takes another way through.
        _cell(layer, small, out // layer.gates, {} if rank == DENSE else {"weight_ih": 1}),
    )


def _linear(site: Decision, rows: int, rank: Rank) -> Call:
    out, width = site.shape
    x = torch.randn(1, rows, width)
    module = nn.Linear(width, out) if rank == DENSE else LowRankLinear(width, out, int(rank))
    return lambda: module(x)


def _pointwise(site: Decision, rows: int, rank: Rank) -> Call:
    out, width = site.shape
    x, dense = torch.randn(1, width, rows), nn.Conv1d(width, out, 1)
    module = dense if rank == DENSE else LowRankConv.from_dense(dense, int(rank))
    return lambda: module(x)


def _product(site: Decision, rows: int, rank: Rank) -> Call:
    """A product within a layer."""
    out, width = site.shape
    x = torch.randn(rows, width)
    if rank == DENSE:
        weight = torch.randn(out, width)
        return lambda: F.linear(x, weight)
    u, v = torch.randn(out, int(rank)), torch.randn(int(rank), width)
    return lambda: F.linear(F.linear(x, v), u)


def _recurrence(layer: LayerKind, rows: int, hidden: int, rank: Rank) -> Call:
    x = torch.randn(rows, 1, INPUT_SIZE)
    if rank == DENSE:
        module = layer.dense(INPUT_SIZE, hidden)
    else:
        module = layer.twin(INPUT_SIZE, hidden, ranks={"weight_hh_l0": int(rank)})
    return lambda: module(x)


def _cell(layer: LayerKind, x: torch.Tensor, hidden: int, ranks: dict[str, Rank]) -> Call:
    factored = {name: int(rank) for name, rank in ranks.items() if rank != DENSE}
    module = (layer.twin if factored else layer.dense)(x.size(1), hidden, **(
        {"ranks": factored} if factored else {}
    ))  # fmt: skip
    state = torch.zeros(len(x), hidden)
    given = (state, state) if layer.dense is nn.LSTMCell else state
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
