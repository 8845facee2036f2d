"""One plan after another in the same model, at the price of what changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from espnet_shrink.methods.lowrank.build import low_rank_twin
from espnet_shrink.methods.lowrank.decompose import Decomposition
from espnet_shrink.methods.lowrank.owners import shared_names, walk
from espnet_shrink.plan import DENSE, Amount, Plan


@dataclass
class _Owner:
    """A dense module with sites: its places in the model, and the ranks it has now.

    The ranks are None where a change was cut off.
    """

    dense: nn.Module
    paths: list[str] = field(default_factory=list)
    sites: dict[str, str] = field(default_factory=dict)  # own name of a weight -> site
    ranks: dict[str, Amount] | None = None


class Replanner:
    """Puts plans into views of one model: modules of their own over the same weights.

    Low-rank layers keep nothing while they run, so one serves all views, and they are small:
    to make one costs little beside a pass through the model.

    Args:
        views: the model, and copies of its modules; changed in place.
        decompositions: of the sites that plans may factorise.
    """

    def __init__(
        self, views: Sequence[nn.Module], decompositions: Mapping[str, Decomposition]
    ) -> None:
        self.views, self.decompositions = views, decompositions
        site_of = {name: name for name in decompositions}
        for first, *others in shared_names(views[0]):
            if first in decompositions:
                site_of.update(dict.fromkeys(others, first))
        modules: dict[int, _Owner] = {}
        for path, module in walk(views[0]):
            modules.setdefault(id(module), _Owner(module)).paths.append(path)
        paths = {path: owner for owner in modules.values() for path in owner.paths}
        for name, site in site_of.items():
            path, _, own = name.rpartition(".")
            paths[path].sites[own] = site
        self._owners = [owner for owner in modules.values() if owner.sites]
        for owner in self._owners:
            owner.ranks = dict.fromkeys(owner.sites, DENSE)

    def apply(self, plan: Plan) -> None:
        """Put `plan` into all views. Sites that it does not name are left dense.

        Raises:
            KeyError: it factorises a site that has no decomposition.
        """
        for site in plan.factored:
            if site not in self.decompositions:
                raise KeyError(site)
        for owner in self._owners:
            ranks = {own: plan.ranks.get(site, DENSE) for own, site in owner.sites.items()}
            if ranks == owner.ranks:
                continue
            factors = {
                own: self.decompositions[owner.sites[own]].factors(rank)
                for own, rank in ranks.items()
                if isinstance(rank, int)
            }
            module = low_rank_twin(owner.dense, factors) if factors else owner.dense
            owner.ranks = None
            for view in self.views:
                for path in owner.paths:
                    parent, _, name = path.rpartition(".")
                    setattr(view.get_submodule(parent), name, module)
            owner.ranks = ranks
