"""Limits of a budget beside that of parameters: each of something that adds up over the sites."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import Amount, Budget, CostModel, Decision, Plan
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.search.speed import SpeedLimit


@dataclass(frozen=True)
class Limit:
    """The most of something that a model may have.

    Attributes:
        what: it is, and in which unit.
        key: its name in a search preset.
        rest: of it that no plan changes.
        price: of one site at an amount.
    """

    what: str
    key: str
    most: float
    rest: float
    price: Callable[[Decision, Amount], float]

    def spent(self, plan: Plan, sites: Iterable[Decision]) -> float:
        """What a model has of it under `plan`."""
        return self.rest + sum(self.price(s, plan.amounts[s.name]) for s in sites)

    def excess(self, plan: Plan, sites: Iterable[Decision]) -> float:
        """How far `plan` is above the limit, relative to it; or below 0."""
        return self.spent(plan, sites) / self.most - 1.0

    def check(self, space: SearchSpace, sites: Iterable[Decision]) -> None:
        """Hold the limit against the least that a space allows.

        Raises:
            ShrinkError: even that is too much.
        """
        least = self.rest + sum(
            min(self.price(s, amount) for amount in space.ranges[s.name]) for s in sites
        )
        if least > self.most:
            raise ShrinkError(
                f"a budget of {self.most:g} {self.what} cannot be met: {least:.4g} is the least "
                f"that the search space allows ({self.rest:.4g} of it is not compressible): raise "
                f"{self.key}"
            )


def limits_of(budget: Budget, prices: CostModel, speed: SpeedLimit | None) -> list[Limit]:
    """All limits of `budget` but that of parameters; that of time is `speed`."""
    found: list[Limit] = []
    rest: float
    dense = {s.name: s.params for s in prices.sites}
    if budget.size_mib < math.inf:
        rest = sum(n * prices.width(name) for name, n in prices.numels.items() if name not in dense)
        found.append(Limit(
            "MiB", "size_mib", budget.size_mib, rest / 2**20,
            lambda site, amount: site.params_at(amount) * prices.width(site.name) / 2**20,
        ))  # fmt: skip
    if budget.macs_per_audio_second < math.inf:
        rest = sum(n * prices.rate(name) for name, n in prices.numels.items() if name not in dense)
        found.append(Limit(
            "multiply-accumulates per second of audio", "macs_per_audio_second",
            budget.macs_per_audio_second, rest,
            lambda site, amount: site.params_at(amount) * prices.rate(site.name),
        ))  # fmt: skip
    if speed is not None:
        latency = speed.latency
        found.append(
            Limit("of real time", "rtf", speed.most_rtf, latency.rest_rtf, latency.site_rtf)
        )
    return found
