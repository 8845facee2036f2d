"""Zero sum: components are dropped so that their predicted changes of the loss cancel out.

The selection of Zero Sum SVD (Abbasi et al., ICML 2026, 2602.02848): one backward pass predicts, to
first order, what dropping each component adds to the loss, and no plan is tried on the way. Every
site offers its last component (of the smallest singular value kept). While the changes dropped so
far sum to 0 or less, the smallest that is not negative is taken, else the negative one nearest to
0. A dense site becomes smaller only once it is below break-even.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from espnet_shrink.plan import DENSE, Decision, Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, clipped
from espnet_shrink.search.searchers.uniform import uniform
from espnet_shrink.search.settings import SearchSettings

LOOKS_AT_LOSS = True
# Of the rank that the uniform plan has: where 60 % are removed, that has 0.4 of the break-even
# rank, and no site goes below 0.3 of it. First order says too little of a site that is nearly gone.
FLOOR = 0.75


def zero_sum(problem: Problem) -> Plan:
    """The plan at which the dropping first meets the budget.

    Where one side (zero and above, or below zero) has nothing to offer, the other does.
    """
    changes = _changes(problem)
    floors = _floors(problem)
    sites = {site.name: site for site in problem.sites}
    kept, total = {}, 0.0
    for name, site in sites.items():
        highest = problem.range(site)[1]
        kept[name] = site.full if highest == DENSE else int(highest)
        total += float(changes[name][kept[name] :].sum())
    ranks = {name: problem.range(site)[1] for name, site in sites.items()}
    size = sum(site.params_at(ranks[name]) for name, site in sites.items())
    offers: tuple[list[tuple[float, str]], list[tuple[float, str]]] = ([], [])

    def offer(name: str) -> None:
        if kept[name] > floors[name]:
            change = float(changes[name][kept[name] - 1])
            heapq.heappush(offers[change < 0.0], (abs(change), name))

    for name in sites:
        offer(name)
    while size > problem.site_budget or not problem.keeps_limits(Plan(ranks)):
        above, below = offers
        taken = (above or below) if total <= 0.0 else (below or above)
        if not taken:
            break
        _, name = heapq.heappop(taken)
        kept[name] -= 1
        total += float(changes[name][kept[name]])
        site, before = sites[name], ranks[name]
        ranks[name] = clipped(problem, site, kept[name])
        size += site.params_at(ranks[name]) - site.params_at(before)
        offer(name)
    return Plan(ranks)


def _changes(problem: Problem) -> Mapping[str, np.ndarray]:
    """Site -> (k,); by energy where the loss says nothing.

    Such a site as a whole is taken to add what the others add on average, signs aside, and each of
    its components its share of the energy: to be dropped costs it, the last ones least.
    """
    judged = problem.loss_changes()
    whole = float(np.mean([np.abs(c).sum() for c in judged.values()])) if judged else 1.0
    rest = [site.name for site in problem.sites if site.name not in judged]
    if rest and judged:
        tqdm.write(f"zero_sum: judged by energy, as the loss does not reach it: {', '.join(rest)}")
    by_energy = {}
    for name in rest:
        energies = problem.energies[name].astype(np.float64)
        by_energy[name] = whole * energies / max(energies.sum(), 1e-30)
    return {**judged, **by_energy}


def _floors(problem: Problem) -> dict[str, int]:
    """Site -> the fewest components that it keeps: all of them where it must stay dense."""
    even = uniform(problem).amounts

    def floor(site: Decision) -> int:
        lowest, amount = problem.range(site)[0], even[site.name]
        if lowest == DENSE:
            return site.full
        rank = problem.largest_rank(site) if amount == DENSE else int(amount)
        return max(int(lowest), int(FLOOR * rank))

    return {site.name: floor(site) for site in problem.sites}


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Propose the one plan."""
    evaluate([zero_sum(problem)], "zero_sum")
