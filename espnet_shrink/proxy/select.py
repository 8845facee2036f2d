"""Choose the utterances of the proxy set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from espnet_shrink.errors import ShrinkError


def select_random(
    lengths: Sequence[int], errors: Sequence[float], size: int, seed: int
) -> list[int]:
    """`size` indices without replacement, every utterance as likely."""
    chosen = np.random.default_rng(seed).choice(len(lengths), size, replace=False)
    return sorted(int(i) for i in chosen)


def select_stratified(
    lengths: Sequence[int], errors: Sequence[float], size: int, seed: int
) -> list[int]:
    """`size` indices with the whole set's mix of lengths and baseline errors.

    Utterances are ordered by thirds of length, then by errors within each third; each of `size`
    equal parts of that order gives one of its members, so that every stratum has its share.

    Args:
        lengths: N, frames.
        errors: N, word errors that the baseline makes.
    """
    generator = np.random.default_rng(seed)
    count = len(lengths)
    thirds = np.argsort(np.argsort(lengths, kind="stable"), kind="stable") * 3 // count
    # The random key shuffles ties, which are many: most utterances have no error.
    order = np.lexsort((generator.random(count), np.asarray(errors), thirds))
    edges = np.linspace(0, count, size + 1).round().astype(int)
    chosen = [
        int(order[generator.integers(low, high)])
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    return sorted(chosen)


METHODS: dict[str, Callable[[Sequence[int], Sequence[float], int, int], list[int]]] = {
    "random": select_random,
    "stratified": select_stratified,
}


def select(
    method: str, lengths: Sequence[int], errors: Sequence[float], size: int, seed: int
) -> list[int]:
    """Indices of the proxy set.

    Raises:
        ShrinkError: unknown method, a size outside 1 to N, or a negative seed.
    """
    if method not in METHODS:
        raise ShrinkError(f"unknown proxy method {method}: choose of {', '.join(METHODS)}")
    if not 1 <= size <= len(lengths):
        raise ShrinkError(
            f"a proxy set of {size} utterances cannot be drawn from {len(lengths)}: "
            f"give --size 1 to {len(lengths)}"
        )
    if seed < 0:
        raise ShrinkError(f"seed {seed} is negative: give 0 or more")
    return METHODS[method](lengths, errors, size, seed)
