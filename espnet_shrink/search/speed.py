"""A budget of time beside that of parameters."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.base import Predictor
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.search.space import SearchSpace


@dataclass(frozen=True)
class SpeedLimit:
    """The most that a model may take.

    Attributes:
        latency: predicts what a plan takes.
        most_rtf: the real-time factor that must not be exceeded.
    """

    latency: Predictor
    most_rtf: float

    def check(self, space: SearchSpace) -> None:
        """Hold the limit against the fastest plan of a space.

        Raises:
            ShrinkError: even that is too slow.
        """
        sites = self.latency.prices.sites
        fastest = Plan({s.name: min(space.ranges[s.name], key=lambda r: self.latency.site_rtf(s, r))
                        for s in sites})  # fmt: skip
        if not self.allows(fastest):
            raise ShrinkError(
                f"a real-time factor of {self.most_rtf:g} cannot be met: "
                f"{self.latency.rtf(fastest):.4f} is the least that the search space allows on "
                f"this machine ({self.latency.rest_rtf:.4f} of it is not compressible): raise rtf"
            )

    def allows(self, plan: Plan) -> bool:
        """Whether `plan` is fast enough."""
        return self.excess(plan) <= 0.0

    def excess(self, plan: Plan) -> float:
        """How far `plan` is above the limit, relative to it."""
        return self.latency.rtf(plan) / self.most_rtf - 1.0

    @functools.cached_property
    def break_evens(self) -> dict[str, int]:
        """Decision -> the largest rank that is smaller and faster than dense."""
        return {site.name: self.latency.break_even(site) for site in self.latency.prices.sites}


def only_faster(space: SearchSpace, speed: SpeedLimit) -> SearchSpace:
    """The space in which every site that no rank makes faster stays dense."""
    kept = {}
    for site in speed.latency.prices.sites:
        low, high = space.ranges[site.name]
        slower = low != DENSE and high == DENSE and int(low) > speed.break_evens[site.name]
        kept[site.name] = (DENSE, DENSE) if slower else (low, high)
    return SearchSpace(kept)
