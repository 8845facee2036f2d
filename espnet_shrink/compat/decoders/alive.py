"""Utterances of a batch that are still being decoded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def running(
    best: Tensor,
    alive: Sequence[int],
    tokens: Sequence[list[int]],
    limits: Sequence[int],
    eos: int,
) -> list[int]:
    """Write a step's tokens down; the rows that go on.

    Args:
        best: (rows,), the token of each.
        alive: which utterance each row is.
        tokens: of every utterance; added to, but for the end symbol.
        limits: the most tokens of every utterance.
    """
    rows = []
    for row, (i, token) in enumerate(zip(alive, best.tolist(), strict=True)):
        if token != eos:
            tokens[i].append(token)
            if len(tokens[i]) < limits[i]:
                rows.append(row)
    return rows


def without_blanks(tokens: Sequence[list[int]]) -> list[list[int]]:
    """As ESPnet's inference does: id 0, the blank, is no text."""
    return [[token for token in sequence if token != 0] for sequence in tokens]
