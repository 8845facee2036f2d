"""How long weight matrices take on this machine: measured for each shape and rank, and kept."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from espnet_shrink.cost import CostModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml, write_text
from espnet_shrink.layers import LowRankGRU, LowRankLSTM
from espnet_shrink.plan import DENSE, Plan, Rank, Site

INPUT_SIZE = 8  # of an LSTM whose recurrence is timed: its input matrix costs next to nothing
MOST_ROWS = 512  # at a time: with more, a row takes no less
RANKS = 7  # measured of a matrix
TURNS = 7
SHORTEST_S = 2e-3  # of a turn
LOOK_UPS = "embedding"
RECURRENT = {"lstm_recurrent": (nn.LSTM, LowRankLSTM), "gru_recurrent": (nn.GRU, LowRankGRU)}


class LatencyTable:
    """Seconds that a matrix takes for one call, at any rank, for one sequence on one thread.

    Some ranks are measured and those between interpolated; a higher rank never takes less. What
    has been measured is kept in `folder`, in a file of this machine's and these libraries', so that
    a search resumes with the figures that it began with.

    Args:
        folder: None: ~/.cache/espnet_shrink, or its place in $XDG_CACHE_HOME.
    """

    def __init__(self, folder: Path | None = None) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.path = (folder or home / "espnet_shrink") / f"latency-{machine()}.yaml"
        self._measured = read_yaml(self.path) if self.path.exists() else {}

    def seconds(self, site: Site, rows: int, rank: Rank) -> float:
        """Of one call of a site with `rows` input vectors; a look-up counts as nothing."""
        if site.kind == LOOK_UPS:
            return 0.0
        points: dict[Rank, float] = self._points(site, _bucket(rows))
        if rank == DENSE:
            return points[DENSE]
        ranks = [r for r in points if isinstance(r, int)]
        return float(np.interp(int(rank), ranks, [points[r] for r in ranks]))

    def break_even(self, site: Site, rows: int) -> int:
        """The largest rank at which a site is both smaller and faster than dense; 0: none is."""
        if site.kind == LOOK_UPS:
            return site.largest_useful_rank
        dense = self.seconds(site, rows, DENSE)
        low, high = 0, site.largest_useful_rank
        while low < high:  # time rises with the rank
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.seconds(site, rows, middle) < dense else (
                low, middle - 1)  # fmt: skip
        return low

    def _points(self, site: Site, rows: int) -> dict[Rank, float]:
        return self.kept(
            f"{site.kind} {site.shape[0]}x{site.shape[1]} {rows}", lambda: _measure(site, rows)
        )

    def kept(self, key: str, measure: Callable[[], Any]) -> Any:
        """What was measured under `key`, now or before."""
        if key not in self._measured:
            self._measured[key] = measure()
            try:
                write_text(self.path, yaml.safe_dump(self._measured, default_flow_style=None))
            except OSError as error:
                raise ShrinkError(
                    f"cannot keep measured times in {self.path.parent} ({error.strerror}): "
                    "set XDG_CACHE_HOME to a folder of yours"
                ) from error
        return self._measured[key]


def machine() -> str:
    """A name that changes with what the times depend on: processor, torch."""
    return f"{llvmlite.binding.get_host_cpu_name()}-torch{torch.__version__}"


def _bucket(rows: int) -> int:
    """The nearest power of two, so that few are measured."""
    return 1 << round(float(np.log2(min(max(rows, 1), MOST_ROWS))))


def _measure(site: Site, rows: int) -> dict[Rank, float]:
    """Rank -> seconds; ranks ascend, and so do their seconds."""
    top = max(site.largest_useful_rank, 1)
    ranks: list[Rank] = sorted({round(float(r)) for r in np.geomspace(min(4, top), top, RANKS)})
    call_of = _recurrence if site.kind in RECURRENT else _product
    with one_thread():
        whole, *factored = _seconds([call_of(site, rows, rank) for rank in [DENSE, *ranks]])
    rising = np.maximum.accumulate(factored).tolist()
    found: dict[Rank, float] = {DENSE: whole}
    found.update(zip(ranks, rising, strict=True))
    return found


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


def _product(site: Site, rows: int, rank: Rank) -> Callable[[], object]:
    out, width = site.shape
    x = torch.randn(rows, width)
    if rank == DENSE:
        weight = torch.randn(out, width)
        return lambda: F.linear(x, weight)
    u, v = torch.randn(out, int(rank)), torch.randn(int(rank), width)
    return lambda: F.linear(F.linear(x, v), u)


def _recurrence(site: Site, rows: int, rank: Rank) -> Callable[[], object]:
    dense, low_rank = RECURRENT[site.kind]
    x, hidden = torch.randn(rows, 1, INPUT_SIZE), site.shape[1]
    if rank == DENSE:
        layer: nn.Module = dense(INPUT_SIZE, hidden)
    else:
        layer = low_rank(INPUT_SIZE, hidden, ranks={"weight_hh_l0": int(rank)})
    return lambda: layer(x)


def _seconds(calls: list[Callable[[], object]]) -> list[float]:
    """Of each call: the median of turns that all of them take."""
    times: list[list[float]] = [[] for _ in calls]
    repeats = [max(1, int(SHORTEST_S / _time(call, 2))) for call in calls]
    for _ in range(TURNS):
        for call, often, found in zip(calls, repeats, times, strict=True):
            found.append(_time(call, often))
    return [statistics.median(found) for found in times]


def _time(call: Callable[[], object], often: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(often):
        call()
    return (time.perf_counter() - start) / often


@dataclass(frozen=True)
class Latency:
    """Predicts how long a model takes under a plan.

    Attributes:
        prices: whose rates and rows say how often each matrix is used.
        table: what a use takes.
        rest_rtf: seconds per second of audio of all that no plan changes.
    """

    prices: CostModel
    table: LatencyTable
    rest_rtf: float

    def rtf(self, plan: Plan) -> float:
        """Real-time factor of a greedy pass, one sequence at a time on one thread."""
        return self.rest_rtf + sum(self.site_rtf(s, plan.ranks[s.name]) for s in self.prices.sites)

    def site_rtf(self, site: Site, rank: Rank) -> float:
        """What a site adds to the real-time factor."""
        rate, rows = self.prices.rates.get(site.name, 0.0), self.rows(site)
        return rate / rows * self.table.seconds(site, rows, rank)

    def break_even(self, site: Site) -> int:
        """As LatencyTable.break_even, for as many rows as the site meets at a time."""
        return self.table.break_even(site, self.rows(site))

    def rows(self, site: Site) -> int:
        """Input vectors that a site meets in one call, on average."""
        return max(1, round(self.prices.rows.get(site.name, 1.0)))
