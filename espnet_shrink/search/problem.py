"""What a searcher is given: sites, their grids and spectra, and a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from espnet_shrink.cost import CostModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import DENSE, Plan, Rank, Site
from espnet_shrink.search.space import SearchSpace


@dataclass(frozen=True)
class Problem:
    """One search.

    Attributes:
        cost_model: prices plans; its sites are the search's sites, in order.
        space: the grid of every site.
        budget_params: the most parameters the whole model may have.
        energies: site -> (k,) squared singular values of its decomposition, descending.
    """

    cost_model: CostModel
    space: SearchSpace
    budget_params: int
    energies: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        smallest = self.fixed_params + sum(
            site.params_at(self.grid(site)[0]) for site in self.sites
        )
        if smallest > self.budget_params:
            raise ShrinkError(
                f"the budget of {self.budget_params:,} parameters cannot be met: {smallest:,} is "
                f"the least that the search space allows ({self.fixed_params:,} of them are not "
                "compressible): lower the target compression"
            )

    @property
    def sites(self) -> list[Site]:
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

    def grid(self, site: Site) -> list[Rank]:
        """The ranks `site` may have."""
        return list(self.space.grids[site.name])

    def params(self, plan: Plan) -> int:
        """Parameters of the whole model under `plan`."""
        return self.cost_model.cost(plan).params

    def feasible(self, plan: Plan) -> bool:
        """Whether `plan` is within the budget."""
        return self.params(plan) <= self.budget_params


def largest_within_budget(problem: Problem, plan_at: Callable[[float], Plan]) -> Plan:
    """The plan of the largest t in [0, 1] that meets the budget, for plans that grow with t.

    Raises:
        ShrinkError: not even t = 0 meets the budget.
    """
    low, high = 0.0, 1.0
    if problem.feasible(plan_at(high)):
        return plan_at(high)
    if not problem.feasible(plan_at(low)):
        raise ShrinkError(
            f"no plan of this kind meets the budget of {problem.budget_params:,} parameters: "
            "lower the target compression"
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if problem.feasible(plan_at(middle)) else (low, middle)
    return plan_at(low)


def clipped(problem: Problem, site: Site, rank: int) -> Rank:
    """`rank`, dense from break-even on, held between the ends of the site's grid."""
    grid = problem.grid(site)
    wanted: Rank = rank if rank <= site.largest_useful_rank else DENSE
    return min(max(wanted, grid[0], key=site.params_at), grid[-1], key=site.params_at)
