"""What low rank decides on: weight matrices, and the rank each one gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from espnet_shrink.plan import DENSE, Amount

Rank = Amount  # an int, or DENSE


@dataclass(frozen=True)
class Site:
    """One weight matrix that can be factorised.

    Attributes:
        name: its dotted parameter name in the uncompressed model; the first of them if several
            modules share it.
        shape: (out, in); (vocabulary, dimensions) of an embedding.
        kind: a value of `kinds.SiteKind`.
    """

    name: str
    shape: tuple[int, int]
    kind: str
    unit: ClassVar[str] = "rank"

    @property
    def params(self) -> int:
        """Parameters of the dense matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def price(self) -> int:
        """Parameters of one more rank: a column of U and a row of V."""
        return sum(self.shape)

    @property
    def full_rank(self) -> int:
        """The largest rank the matrix can have."""
        return min(self.shape)

    @property
    def full(self) -> int:
        """The full rank."""
        return self.full_rank

    @property
    def largest_useful_rank(self) -> int:
        """The largest rank whose factors are smaller than the matrix (just below break-even)."""
        return (self.params - 1) // sum(self.shape)

    @property
    def largest_useful(self) -> int:
        """The largest useful rank."""
        return self.largest_useful_rank

    def allows(self, rank: object) -> bool:
        """Whether `rank` is "dense" or a whole number from 1 to `largest_useful_rank`."""
        if isinstance(rank, bool) or not isinstance(rank, int):
            return rank == DENSE
        return 1 <= rank <= self.largest_useful_rank

    def params_at(self, rank: Rank) -> int:
        """Parameters of the matrix at `rank`."""
        return self.params if rank == DENSE else int(rank) * sum(self.shape)
