"""How long a model takes on this machine under a plan: from times of its matrices."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_shrink.methods.lowrank.kinds import Form, kind_of_site, recurs
from espnet_shrink.methods.lowrank.measured import Measured
from espnet_shrink.methods.lowrank.site import Rank
from espnet_shrink.methods.lowrank.timing import measure
from espnet_shrink.plan import DENSE, CostModel, Decision, Plan

MOST_ROWS = 2048  # measured of a product: from there on a row takes the same
MOST_FRAMES = 256  # of a recurrence

Calls = Mapping[int, float]
"""Input vectors at a time -> how often a matrix meets so many."""


@dataclass(frozen=True)
class Curve:
    """Seconds of a site by its rank.

    Attributes:
        dense: of the matrix as it is.
        ranks: those measured, ascending.
        factored: seconds of these; those between are interpolated.
    """

    dense: float
    ranks: Sequence[int]
    factored: Sequence[float]

    def seconds(self, rank: Rank) -> float:
        """At any rank, or "dense"."""
        if rank == DENSE:
            return self.dense
        return float(np.interp(int(rank), self.ranks, self.factored))

    def break_even(self, site: Decision) -> int:
        """The largest rank at which `site` is both smaller and faster than dense; 0: none is."""
        if not self.dense and not any(self.factored):
            return site.largest_useful
        low, high = 0, site.largest_useful
        while low < high:  # time rises with the rank
            middle = (low + high + 1) // 2
            faster = self.seconds(middle) < self.dense
            low, high = (middle, high) if faster else (low, middle - 1)
        return low


class LatencyTable:
    """Seconds that calls of a matrix take, at any rank, for one sequence on one thread.

    Some ranks are measured, and numbers of rows that are powers of two; those between are
    interpolated. A higher rank never takes less. Above the most rows that are measured, time goes
    with the rows.

    Args:
        folder: where it is kept; None: as `measured.Measured` says.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.kept = Measured(folder)

    def curve(self, site: Decision, calls: Calls) -> Curve:
        """Of all calls of a site; looking rows of a table up counts as nothing."""
        most = MOST_FRAMES if recurs(site.kind) else MOST_ROWS
        often: dict[int, float] = defaultdict(float)  # rows that are measured -> calls
        for rows, count in ({} if kind_of_site(site.kind).form is Form.TABLE else calls).items():
            for measured_rows, share in _between(rows, most).items():
                often[measured_rows] += share * count
        points = [(self._measured(site, rows), count) for rows, count in often.items()]
        ranks = [r for r in points[0][0] if isinstance(r, int)] if points else [1]
        return Curve(
            sum(count * times[DENSE] for times, count in points), ranks,
            [sum(count * times[rank] for times, count in points) for rank in ranks],
        )  # fmt: skip

    def _measured(self, site: Decision, rows: int) -> Mapping[Rank, float]:
        found = self.kept.get(
            f"{site.kind} {site.shape[0]}x{site.shape[1]} {rows}", lambda: dict(measure(site, rows))
        )
        assert isinstance(found, dict)
        return found


def _between(rows: int, most: int) -> dict[int, float]:
    """Powers of two, not above `most` (one too) -> how much of each `rows` rows take."""
    if rows < 1:
        return {}
    if rows >= most:
        return {most: rows / most}
    below = 1 << (rows.bit_length() - 1)
    beyond = rows / below - 1.0
    return {below: 1.0 - beyond, 2 * below: beyond} if beyond else {below: 1.0}


@dataclass(frozen=True)
class Latency:
    """Predicts how long a model takes under a plan.

    Attributes:
        prices: whose sites they are.
        calls: site -> its calls in decoding a second of audio; absent: it is never used.
        table: what a call takes.
        rest_rtf: seconds per second of audio of all that no plan changes.
    """

    prices: CostModel
    calls: Mapping[str, Calls]
    table: LatencyTable
    rest_rtf: float

    def rtf(self, plan: Plan) -> float:
        """Real-time factor of greedy decoding, one recording at a time on one thread."""
        sites = self.prices.sites
        return self.rest_rtf + sum(self.site_rtf(s, plan.amounts[s.name]) for s in sites)

    def site_rtf(self, site: Decision, rank: Rank) -> float:
        """What a site adds to the real-time factor."""
        return self._curves[site.name].seconds(rank)

    def break_even(self, site: Decision) -> int:
        """As Curve.break_even; the largest useful rank of a site that is never used."""
        return self._curves[site.name].break_even(site)

    @functools.cached_property
    def _curves(self) -> dict[str, Curve]:
        return {s.name: self.table.curve(s, self.calls.get(s.name, {})) for s in self.prices.sites}
