"""What a searcher is given: sites, their ranges and spectra, and a budget."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import (
    DENSE,
    Amount,
    Budget,
    Decision,
    Plan,
)
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.search.limits import Limit, limits_of
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.search.speed import SpeedLimit


@dataclass(frozen=True)
class Problem:
    """One search.

    Attributes:
        cost_model: prices plans; its sites are the search's sites, in order.
        space: the range of every site.
        budget: what the whole model may cost; a number: that of its parameters.
        energies: site -> (k,) squared singular values of its decomposition, descending.
        speed: the limit of time of the budget, with what predicts it; None: there is none.
        multiple: of ranks, but for those at the ends of a range.
        loss_changes: computes site -> (k,), what dropping each component adds to the model's loss,
            about; sites that cannot be judged so are left out.
    """

    cost_model: CostModel
    space: SearchSpace
    budget: Budget | int
    energies: Mapping[str, np.ndarray]
    speed: SpeedLimit | None = None
    multiple: int = 1
    loss_changes: Callable[[], Mapping[str, np.ndarray]] = dict

    def __post_init__(self) -> None:
        smallest = self.fixed_params + self.least
        if smallest > self.budget_params:
            raise ShrinkError(
                f"the budget of {self.budget_params:,} parameters cannot be met: {smallest:,} is "
                f"the least that the search space allows ({self.fixed_params:,} of them are not "
                "compressible): lower the target compression"
            )
        if self.speed is not None:
            self.speed.check(self.space)
        for limit in self.limits:
            limit.check(self.space, self.sites)

    @functools.cached_property
    def budget_params(self) -> int:
        """The most parameters the whole model may have."""
        return int(min(self._budget.params, sum(self.cost_model.numels.values())))

    def of_params(self, params: int) -> Problem:
        """The same with another limit of parameters."""
        return dataclasses.replace(self, budget=dataclasses.replace(self._budget, params=params))

    @functools.cached_property
    def limits(self) -> list[Limit]:
        """All others of the budget."""
        return limits_of(self._budget, self.cost_model, self.speed)

    @functools.cached_property
    def _budget(self) -> Budget:
        return self.budget if isinstance(self.budget, Budget) else Budget(self.budget)

    @property
    def sites(self) -> list[Decision]:
        """The sites, in the model's order."""
        return list(self.cost_model.sites)

    @property
    def fixed_params(self) -> int:
        """Parameters outside all sites."""
        return sum(self.cost_model.numels.values()) - sum(site.params for site in self.sites)

    @property
    def site_budget(self) -> int:
        """Parameters that all sites together may have."""
        return self.budget_params - self.fixed_params

    @property
    def least(self) -> int:
        """Parameters of all sites at their lowest ranks."""
        return sum(site.params_at(self.range(site)[0]) for site in self.sites)

    def range(self, site: Decision) -> tuple[Amount, Amount]:
        """The lowest and the highest rank that `site` may have."""
        return self.space.ranges[site.name]

    def params(self, plan: Plan) -> int:
        """Parameters of the whole model under `plan`."""
        return self.cost_model.cost(plan).params

    def feasible(self, plan: Plan) -> bool:
        """Whether `plan` is within the budget."""
        return self.params(plan) <= self.budget_params and self.keeps_limits(plan)

    def keeps_limits(self, plan: Plan) -> bool:
        """Whether `plan` keeps all limits but that of parameters."""
        return all(limit.excess(plan, self.sites) <= 0.0 for limit in self.limits)

    def excess(self, plan: Plan) -> float:
        """How far `plan` is over the limit that it breaks most, relative to it; or below 0."""
        size = self.params(plan) / self.budget_params - 1.0
        return max([size, *(limit.excess(plan, self.sites) for limit in self.limits)])

    def spare(self, plan: Plan) -> np.ndarray:
        """(limits): what `plan` leaves of every limit but that of parameters."""
        return np.array([limit.most - limit.spent(plan, self.sites) for limit in self.limits])

    def adds(self, site: Decision, rank: Amount, more: Amount) -> np.ndarray:
        """(limits): what `more` in place of `rank` takes of each."""
        return np.array(
            [limit.price(site, more) - limit.price(site, rank) for limit in self.limits]
        )

    def largest_rank(self, site: Decision) -> int:
        """The largest rank that is worth having: above it, dense is smaller, or faster."""
        if self.speed is None:
            return site.largest_useful
        return self.speed.break_evens[site.name]


def largest_within_budget(problem: Problem, plan_at: Callable[[float], Plan]) -> Plan:
    """The plan of the largest t in [0, 1] that meets the budget, for plans that grow with t.

    Raises:
        ShrinkError: not even t = 0 meets the budget.
    """
    if not problem.feasible(plan_at(0.0)):
        raise ShrinkError(
            f"no plan of this kind meets the budget of {problem.budget_params:,} parameters: "
            "lower the target compression"
        )
    return plan_at(_largest(lambda t: problem.feasible(plan_at(t))))


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest t in [0, 1] that fits, where less fits if more does; 0 is taken to fit."""
    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def clipped(problem: Problem, site: Decision, rank: int) -> Amount:
    """`rank` rounded down to a multiple, dense from break-even on, within the range of the site."""
    lowest, highest = problem.range(site)
    rounded = rank - rank % problem.multiple
    wanted: Amount = rounded if rank <= problem.largest_rank(site) else DENSE
    return min(max(wanted, lowest, key=site.params_at), highest, key=site.params_at)


def next_rank(problem: Problem, site: Decision, rank: int) -> Amount:
    """The next larger rank that a site may have; the highest of its range if there is none."""
    more = (rank // problem.multiple + 1) * problem.multiple
    wanted: Amount = more if more <= problem.largest_rank(site) else DENSE
    return min(wanted, problem.range(site)[1], key=site.params_at)


def plan_of_sizes(problem: Problem, sizes: Sequence[float] | np.ndarray) -> Plan:
    """The plan whose sites have about `sizes` parameters, rounded down, each within its range."""
    return Plan(
        {
            site.name: clipped(problem, site, int(size / site.price + 1e-9))
            if size < site.params
            else clipped(problem, site, site.full)
            for site, size in zip(problem.sites, sizes, strict=True)
        }
    )


def fit_to_budget(problem: Problem, log_sizes: Sequence[float] | np.ndarray) -> Plan:
    """The plan at the budget whose sites have parameters in the proportions exp(`log_sizes`).

    One factor scales all sites; what rounding leaves goes, a rank at a time, to the sites that
    it took most from. So every wish becomes a plan that spends the budget.
    """
    sites = problem.sites
    wanted = np.asarray(log_sizes, dtype=np.float64)
    ends = np.array([[s.params_at(rank) for rank in problem.range(s)] for s in sites], np.float64)
    # Beyond these shifts every site is at an end of its range.
    least, most = (
        float((np.log(ends[:, 0]) - wanted).min()),
        float((np.log(ends[:, 1]) - wanted).max()),
    )
    spread = max(most - least, 1e-9)

    def sizes_at(t: float) -> np.ndarray:
        return np.clip(np.exp(wanted + least + t * spread), ends[:, 0], ends[:, 1])

    def fits(t: float) -> bool:
        sizes = sizes_at(t)
        # Where time is limited, a rank past a site's break-even of time becomes dense: larger.
        return bool(sizes.sum() <= problem.site_budget) and (
            not problem.limits or problem.feasible(plan_of_sizes(problem, sizes))
        )

    sizes = sizes_at(_largest(fits))
    ranks = dict(plan_of_sizes(problem, sizes).ranks)
    left = problem.site_budget - sum(s.params_at(ranks[s.name]) for s in sites)
    lost = [
        (s.params_at(ranks[s.name]) - size) / s.price for s, size in zip(sites, sizes, strict=True)
    ]
    for i in np.argsort(lost, kind="stable"):
        site, rank = sites[i], ranks[sites[i].name]
        if rank == problem.range(site)[1]:
            continue
        more = next_rank(problem, site, int(rank))
        price = site.params_at(more) - site.params_at(rank)
        if price <= left and problem.keeps_limits(Plan({**ranks, site.name: more})):
            ranks[site.name], left = more, left - price
    return Plan(ranks)


def log_sizes_of(problem: Problem, plan: Plan) -> np.ndarray:
    """(sites): log parameters of every site under `plan`."""
    return np.log([s.params_at(plan.amounts[s.name]) for s in problem.sites])


def log_ends(problem: Problem) -> np.ndarray:
    """(sites, 2): log parameters of every site at its lowest and highest rank."""
    return np.log([[s.params_at(rank) for rank in problem.range(s)] for s in problem.sites])
