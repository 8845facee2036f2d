"""The search space: for every site, the least and the largest rank that a plan may give it."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import (
    DENSE,
    Amount,
    Decision,
    Plan,
)
from espnet_shrink.search.settings import SearchSettings


@dataclass(frozen=True)
class SearchSpace:
    """(lowest, highest) rank by site name; either may be "dense"."""

    ranges: Mapping[str, tuple[Amount, Amount]]

    @property
    def document(self) -> dict[str, list[Amount]]:
        """The ranges as plain data, for records."""
        return {name: list(ranks) for name, ranks in self.ranges.items()}

    @property
    def free(self) -> int:
        """The number of sites that may be factorised."""
        return sum(low != DENSE for low, _ in self.ranges.values())

    def check(self, sites: Sequence[Decision]) -> None:
        """Hold the space against a model's sites.

        Raises:
            ShrinkError: sites unknown or missing, or a range that is none.
        """
        by_name = {site.name: site for site in sites}
        for name in sorted(set(self.ranges) ^ set(by_name), key=str):
            state = "no site of this model" if name in self.ranges else "not in the search space"
            raise ShrinkError(f"{name} is {state}: make the space anew (espnet-shrink space)")
        for name, ranks in self.ranges.items():
            site = by_name[name]
            for rank in ranks:
                if not site.allows(rank):
                    raise ShrinkError(
                        f"rank {rank!r} in the range of {name} is out of range: give 1 to "
                        f"{site.largest_useful} (below break-even), or {DENSE}"
                    )
            if len(ranks) != 2 or site.params_at(ranks[0]) > site.params_at(ranks[1]):
                raise ShrinkError(f"the range of {name} must be two ranks, [lowest, highest]")

    def check_plan(self, plan: Plan, sites: Sequence[Decision]) -> None:
        """Hold a plan against the space.

        Raises:
            ShrinkError: it gives a site a rank outside of its range.
        """
        for site in sites:
            low, high = self.ranges[site.name]
            rank = plan.amounts[site.name]
            if not site.params_at(low) <= site.params_at(rank) <= site.params_at(high):
                raise ShrinkError(
                    f"the plan gives {site.name} the rank {rank}, but the search space goes from "
                    f"{low} to {high}: search again within it, or edit the space"
                )

    def constrained(
        self, sites: Sequence[Decision], settings: SearchSettings, other_names: Iterable[str] = ()
    ) -> SearchSpace:
        """The space in which sites are dense, or floored, as `settings` wants.

        Args:
            other_names: matrices that stay dense anyway: a pattern may match them alone.

        Raises:
            ShrinkError: a pattern matches no site, or a floor is above what the space allows.
        """
        names = [site.name for site in sites]
        for pattern in settings.keep_dense:
            if not fnmatch.filter([*names, *other_names], pattern):
                raise ShrinkError(
                    f"keep_dense: no site matches {pattern!r}; the sites are such as "
                    f"{', '.join(names[:3])} (espnet-shrink space lists all; * matches anything)"
                )
        kept = {}
        for site in sites:
            low, high = self.ranges[site.name]
            floor: Amount = max(1, math.ceil(settings.min_rank_share * site.full - 1e-9))
            if any(fnmatch.fnmatchcase(site.name, p) for p in settings.keep_dense):
                low = high = DENSE
            elif int(floor) > site.largest_useful:
                floor = DENSE
            if site.params_at(floor) > site.params_at(high):
                raise ShrinkError(
                    f"min_rank_share {settings.min_rank_share:g} lets {site.name} go no lower than "
                    f"rank {floor}, but the search space ends at {high}: change one of them"
                )
            kept[site.name] = (max(low, floor, key=site.params_at), high)
        return SearchSpace(kept)

    def below(self, plan: Plan, sites: Sequence[Decision]) -> SearchSpace:
        """The space without the ranks above those of `plan`, of which `sites` were folded.

        A folded matrix has the rank of its factors: more would add parameters and nothing else.
        """
        kept = {}
        for site in sites:
            low, high = (
                min(rank, plan.amounts[site.name], key=site.params_at)
                for rank in self.ranges[site.name]
            )
            kept[site.name] = (low, high)
        return SearchSpace(kept)

    def save(self, path: Path, sites: Sequence[Decision]) -> None:
        """Write the space as YAML that can be edited by hand."""
        document = {
            "sites": {
                site.name: {
                    "kind": str(site.kind),
                    "shape": list(site.shape),
                    "ranks": list(self.ranges[site.name]),
                }
                for site in sites
            }
        }
        text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
        write_text(path, text)

    @classmethod
    def load(cls, path: Path) -> SearchSpace:
        """Read what `save` wrote.

        Raises:
            ShrinkError: no such file or no search space.
        """
        sites = read_yaml(path).get("sites")
        if not isinstance(sites, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get("ranks"), list)
            for entry in sites.values()
        ):
            raise ShrinkError(
                f"{path} is no search space: it needs `sites: {{NAME: {{ranks: [LOW, HIGH]}}}}`"
            )
        return cls({name: tuple(entry["ranks"]) for name, entry in sites.items()})


def full_space(sites: Sequence[Decision], min_rank: int) -> SearchSpace:
    """Every site from `min_rank`, or break-even if that is less, to dense."""
    return SearchSpace({s.name: (min(min_rank, s.largest_useful), DENSE) for s in sites})
