"""What a compression method may decide on in a model, and what it leaves alone."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

DENSE = "dense"
Amount = int | str
"""How much of its units a decision keeps: a number, or DENSE: all, as it was."""


class Decision(Protocol):
    """One part of a model of which more or less may be kept.

    Attributes:
        name: that of its parameter in the uncompressed model.
        shape: of that parameter.
        kind: what it is for, a value of the method's own enumeration.
        unit: what is counted: "rank", "heads", "columns", ...
        full: all units that there can be.
        largest_useful: the most units at which it is smaller than as it was.
        price: parameters that one unit costs.
        params: parameters as it was.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def kind(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def full(self) -> int: ...

    @property
    def largest_useful(self) -> int: ...

    @property
    def price(self) -> int: ...

    @property
    def params(self) -> int: ...

    def allows(self, amount: object) -> bool:
        """Whether `amount` is "dense" or a whole number from 1 to `largest_useful`."""

    def params_at(self, amount: Amount) -> int:
        """Parameters at `amount`."""


class Why(enum.StrEnum):
    """Why a parameter is left as it is."""

    VECTOR = "vector"
    COMPRESSED = "compressed"
    FRONTEND = "frontend"
    LOOK_UP = "look-up"
    NO_LAYER = "no layer"
    TIED = "tied"
    TOO_SMALL = "too small"


@dataclass(frozen=True)
class Uncompressed:
    """A parameter that no plan decides on.

    Attributes:
        reason: in words.
        why: the same as a type.
    """

    name: str
    params: int
    reason: str
    shape: tuple[int, ...]
    why: Why


D = TypeVar("D", bound=Decision, covariant=True)


@dataclass(frozen=True)
class Survey(Generic[D]):
    """All parameters of a model, each either decided on or named with a reason."""

    sites: Sequence[D]
    uncompressed: list[Uncompressed]


def describe(found: Survey[Decision]) -> list[str]:
    """One line for every parameter, vectors aside, that stays as it is: what it is, and why."""
    return [
        f"{u.name} ({'x'.join(map(str, u.shape))}, {u.params:,} params): {u.reason}"
        for u in found.uncompressed
        if u.why is not Why.VECTOR
    ]
