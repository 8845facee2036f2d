"""CTC prefix scores, compiled by numba (Watanabe et al. 2017, Hybrid CTC/attention, alg. 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

LOG_ZERO = np.float32(-1e10)  # as ESPnet's
_COMPILED: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class Prefixes:
    """CTC probabilities of all paths through a few prefixes.

    Attributes:
        r: (n, T, 2), log probability of a prefix's paths to each frame that end in its last label,
            and in blank.
        psi: (n,), log probability of all that begins with the prefix.
    """

    r: np.ndarray
    psi: np.ndarray


class PrefixScorer:
    """Scores of one utterance.

    Args:
        logp: (T, labels), float32.
        eos: the label that ends a text.
    """

    def __init__(self, logp: np.ndarray, eos: int) -> None:
        self.logp, self.eos = np.ascontiguousarray(logp, dtype=np.float32), eos

    def start(self) -> Prefixes:
        """The empty prefix."""
        r = np.full((1, len(self.logp), 2), LOG_ZERO, dtype=np.float32)
        r[0, :, 1] = np.cumsum(self.logp[:, 0], dtype=np.float32)
        return Prefixes(r, np.zeros(1, dtype=np.float32))

    def extend(
        self, given: Prefixes, last: np.ndarray, length: int, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prefixes with one more label.

        Args:
            given: n prefixes of `length` labels each.
            last: (n,), the last label of each.
            labels: (n, m), those to extend it with.

        Returns:
            r (n, m, T, 2), and psi (n, m).
        """
        count, width = labels.shape
        r = np.empty((count, width, len(self.logp), 2), dtype=np.float32)
        psi = np.empty((count, width), dtype=np.float32)
        _extend(self.logp, given.r, last, length, labels, self.eos, r, psi)
        return r, psi


@njit(inline="always", **_COMPILED)
def _add(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    difference = b - a
    if difference < np.float32(-20.0):  # less than float32 holds beside 1
        return a
    return a + np.float32(np.log1p(np.exp(difference)))


@njit(**_COMPILED)
def _extend(
    logp: Any, before: Any, last: Any, length: int, labels: Any, eos: int, r: Any, psi: Any
) -> None:
    frames = logp.shape[0]
    start = max(length, 1)
    sums = np.empty(frames, dtype=np.float32)
    for i in range(labels.shape[0]):
        for t in range(frames):
            sums[t] = _add(before[i, t, 0], before[i, t, 1])
        for j in range(labels.shape[1]):
            label = labels[i, j]
            own = r[i, j]
            for t in range(start):
                own[t, 0] = own[t, 1] = LOG_ZERO
            if length == 0:
                own[0, 0] = logp[0, label]
            repeated = length > 0 and label == last[i]
            total = own[start - 1, 0]
            for t in range(start, frames):
                phi = before[i, t - 1, 1] if repeated else sums[t - 1]
                x = logp[t, label]
                own[t, 0] = _add(own[t - 1, 0], phi) + x
                own[t, 1] = _add(own[t - 1, 0], own[t - 1, 1]) + logp[t, 0]
                total = _add(total, phi + x)
            if label == eos:
                total = sums[frames - 1]
            if label == 0 and eos != 0:
                total = LOG_ZERO
            psi[i, j] = total
