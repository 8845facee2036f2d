"""Choose the utterances of the proxy set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from espnet_shrink.errors import ShrinkError

SWAPS = 1000  # at most, of an ordered choice; it ends before, when no swap helps


@dataclass(frozen=True)
class Candidates:
    """The utterances to choose from.

    Attributes:
        lengths: (N), frames.
        errors: (N), what each adds to the baseline's errors.
        plan_errors: (plans, N), what each adds to the errors of some plans.
        groups: (plans), plans of one group have the same compression.
    """

    lengths: np.ndarray
    errors: np.ndarray
    plan_errors: np.ndarray
    groups: np.ndarray


def select_random(data: Candidates, size: int, seed: int) -> list[int]:
    """`size` indices without replacement, every utterance as likely."""
    chosen = np.random.default_rng(seed).choice(len(data.lengths), size, replace=False)
    return sorted(int(i) for i in chosen)


def select_stratified(data: Candidates, size: int, seed: int) -> list[int]:
    """`size` indices with the whole set's mix of lengths and baseline errors.

    Utterances are ordered by thirds of length, then by errors within each third; each of `size`
    equal parts of that order gives one of its members, so that every stratum has its share.
    """
    generator = np.random.default_rng(seed)
    count = len(data.lengths)
    thirds = np.argsort(np.argsort(data.lengths, kind="stable"), kind="stable") * 3 // count
    # The random key shuffles ties, which are many: most utterances have no error.
    order = np.lexsort((generator.random(count), data.errors, thirds))
    edges = np.linspace(0, count, size + 1).round().astype(int)
    chosen = [
        int(order[generator.integers(low, high)])
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    return sorted(chosen)


def select_ordered(data: Candidates, size: int, seed: int) -> list[int]:
    """`size` indices on which plans of one compression do as well or badly as on the whole set.

    From a stratified choice, the swap of two utterances that brings the plans' errors closest to
    those on the whole set, as long as one does. Squared distances are brought down, for they see
    more of a plan than its place in an order; what is hoped for is a better order (`kept_order`).
    """
    chosen = select_stratified(data, size, seed)
    centred = _centred(data)
    target = centred.mean(axis=1)
    inside = np.zeros(len(data.lengths), bool)
    inside[chosen] = True
    for _ in range(SWAPS):
        into, out = np.flatnonzero(~inside), np.flatnonzero(inside)
        if not len(into):
            break
        gap = centred[:, out].sum(axis=1) / size - target
        # |gap + (a - b) / size|^2 for all pairs, without making the vectors.
        a, b = centred[:, into] / size, centred[:, out] / size
        found = (
            (a**2).sum(0)[:, None] + (b**2).sum(0) - 2 * a.T @ b
            + 2 * (gap @ a)[:, None] - 2 * (gap @ b)
        )  # fmt: skip
        i, j = np.unravel_index(int(found.argmin()), found.shape)
        if found[i, j] > -1e-12 * (target @ target):
            break
        inside[into[i]], inside[out[j]] = True, False
    return [int(i) for i in np.flatnonzero(inside)]


def _centred(data: Candidates) -> np.ndarray:
    """plan_errors less the mean of the plans with the same compression."""
    centred = data.plan_errors.astype(np.float64)
    for group in np.unique(data.groups):
        rows = data.groups == group
        centred[rows] -= centred[rows].mean(axis=0)
    return centred


METHODS: dict[str, Callable[[Candidates, int, int], list[int]]] = {
    "random": select_random,
    "stratified": select_stratified,
    "ordered": select_ordered,
}


def kept_order(data: Candidates, chosen: Sequence[int]) -> float:
    """Kendall's tau-b between plans' errors on the chosen and on all utterances.

    The mean over the groups: plans of different compressions are easily told apart.
    """
    whole, part = data.plan_errors.sum(axis=1), data.plan_errors[:, list(chosen)].sum(axis=1)
    taus = [
        stats.kendalltau(part[data.groups == group], whole[data.groups == group]).statistic
        for group in np.unique(data.groups)
    ]
    return float(np.nanmean(taus)) if not np.isnan(taus).all() else 0.0


def expected_order(method: str, data: Candidates, size: int, seed: int) -> float:
    """`kept_order` of plans that had no say in the choice: half of them choose, half judge."""
    halves = np.arange(len(data.groups)) % 2 == 0
    taus = []
    for half in (halves, ~halves):
        choosing, judging = (_of_plans(data, rows) for rows in (half, ~half))
        taus.append(kept_order(judging, METHODS[method](choosing, size, seed)))
    return float(np.mean(taus))


def _of_plans(data: Candidates, rows: np.ndarray) -> Candidates:
    return Candidates(data.lengths, data.errors, data.plan_errors[rows], data.groups[rows])


def select(method: str, data: Candidates, size: int, seed: int) -> list[int]:
    """Indices of the proxy set.

    Raises:
        ShrinkError: as `check_selection`.
    """
    check_selection(method, len(data.lengths), size, seed)
    return METHODS[method](data, size, seed)


def check_selection(method: str, count: int, size: int, seed: int) -> None:
    """Raise ShrinkError for an unknown method, a size outside 1 to `count`, or a negative seed."""
    if method not in METHODS:
        raise ShrinkError(f"unknown proxy method {method}: choose of {', '.join(METHODS)}")
    if not 1 <= size <= count:
        raise ShrinkError(
            f"a proxy set of {size} utterances cannot be drawn from {count}: "
            f"give --size 1 to {count}"
        )
    if seed < 0:
        raise ShrinkError(f"seed {seed} is negative: give 0 or more")
