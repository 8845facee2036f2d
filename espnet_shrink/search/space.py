"""The search space: for every site, the least and the largest rank that a plan may give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml, write_text
from espnet_shrink.plan import DENSE, Rank, Site


@dataclass(frozen=True)
class SearchSpace:
    """(lowest, highest) rank by site name; either may be "dense"."""

    ranges: Mapping[str, tuple[Rank, Rank]]

    def check(self, sites: Sequence[Site]) -> None:
        """Hold the space against a model's sites.

        Raises:
            ShrinkError: sites unknown or missing, or a range that is none.
        """
        by_name = {site.name: site for site in sites}
        for name in sorted(set(self.ranges) ^ set(by_name), key=str):
            state = "no site of this model" if name in self.ranges else "not in the search space"
            raise ShrinkError(f"{name} is {state}: make the space anew (stage 17)")
        for name, ranks in self.ranges.items():
            site = by_name[name]
            for rank in ranks:
                if not site.allows(rank):
                    raise ShrinkError(
                        f"rank {rank!r} in the range of {name} is out of range: give 1 to "
                        f"{site.largest_useful_rank} (below break-even), or {DENSE}"
                    )
            if len(ranks) != 2 or site.params_at(ranks[0]) > site.params_at(ranks[1]):
                raise ShrinkError(f"the range of {name} must be two ranks, [lowest, highest]")

    def save(self, path: Path, sites: Sequence[Site]) -> None:
        """Write the space as YAML that can be edited by hand."""
        document = {
            "sites": {
                site.name: {
                    "kind": site.kind,
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


def full_space(sites: Sequence[Site], min_rank: int) -> SearchSpace:
    """Every site from `min_rank`, or break-even if that is less, to dense."""
    return SearchSpace({s.name: (min(min_rank, s.largest_useful_rank), DENSE) for s in sites})
