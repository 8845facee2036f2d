"""Energy order: rank is given, one component at a time, where it saves most energy per parameter."""

from __future__ import annotations

import heapq

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import DENSE, Plan, Rank
from espnet_shrink.search.problem import Problem

NOTHING = 1e-12  # relative energy per parameter that rounding alone can leave


def energy_order(problem: Problem) -> Plan:
    """One order over the components of all sites, by relative energy per parameter.

    A component of site i is worth its share of the site's energy, and costs out + in parameters.
    """
    sites = {site.name: site for site in problem.sites}
    ranks: dict[str, Rank] = dict.fromkeys(sites, 1)
    left = problem.site_budget - sum(site.params_at(1) for site in sites.values())
    if left < 0:
        raise ShrinkError(
            f"no plan meets the budget of {problem.budget_params:,} parameters: "
            "lower the target compression"
        )

    def gain(name: str, rank: int) -> float:
        energies = problem.energies[name]
        return float(energies[rank] / max(energies.sum(), 1e-30) / sum(sites[name].shape))

    heap = [(-gain(name, 1), name, 1) for name in sites if problem.energies[name].size > 1]
    heapq.heapify(heap)
    while heap:
        worth, name, rank = heapq.heappop(heap)
        if -worth < NOTHING:
            break  # a folded low-rank site has no more to give
        site = sites[name]
        at_break_even = rank >= site.largest_useful_rank
        price = site.params - site.params_at(rank) if at_break_even else sum(site.shape)
        if price > left:
            continue  # this site is done; cheaper ones may still fit
        left -= price
        if at_break_even:
            ranks[name] = DENSE
        else:
            ranks[name] = rank + 1
            heapq.heappush(heap, (-gain(name, rank + 1), name, rank + 1))
    return Plan(ranks)
