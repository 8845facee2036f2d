"""Energy order: rank is given, a component at a time, where it saves most energy per parameter."""

from __future__ import annotations

import heapq

from espnet_shrink.plan import Amount, Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, next_rank
from espnet_shrink.search.settings import SearchSettings

NOTHING = 1e-12  # relative energy per parameter that rounding alone can leave


def energy_order(problem: Problem) -> Plan:
    """One order over the components of all sites, by relative energy per parameter.

    A component of site i is worth its share of the site's energy, and costs out + in parameters.
    """
    sites = {site.name: site for site in problem.sites}
    ranks: dict[str, Amount] = {name: problem.range(site)[0] for name, site in sites.items()}
    # Not negative: a problem whose smallest plan is over the budget cannot be made.
    left = problem.site_budget - problem.least
    spare = problem.spare(Plan(ranks))

    def gain(name: str, rank: int) -> float:
        """Of the next component; those of a multiple are worth as much as their first."""
        energies = problem.energies[name]
        return float(energies[rank] / max(energies.sum(), 1e-30) / sites[name].price)

    heap = [(-gain(n, rank), n, rank) for n, rank in ranks.items() if isinstance(rank, int)]
    heapq.heapify(heap)
    while heap:
        worth, name, rank = heapq.heappop(heap)
        if -worth < NOTHING:
            break  # a folded low-rank site has no more to give
        site = sites[name]
        more = next_rank(problem, site, rank)
        price = site.params_at(more) - site.params_at(rank)
        added = problem.adds(site, rank, more)
        if price > left or (added > spare).any() or more == rank:
            continue  # this site is done; others may still take more
        left -= price
        spare = spare - added
        ranks[name] = more
        if isinstance(more, int):
            heapq.heappush(heap, (-gain(name, more), name, more))
    return Plan(ranks)


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose the one plan."""
    evaluate([energy_order(problem)], "energy_order")
