"""The search space: for every site, the ranks that a plan may choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml, write_text
from espnet_shrink.plan import DENSE, Rank, Site


@dataclass(frozen=True)
class SearchSpace:
    """Grids of ranks, ascending, by site name."""

    grids: Mapping[str, Sequence[Rank]]

    def check(self, sites: Sequence[Site]) -> None:
        """Hold the space against a model's sites.

        Raises:
            ShrinkError: sites unknown or missing, an empty grid, or a rank out of range.
        """
        by_name = {site.name: site for site in sites}
        for name in sorted(set(self.grids) ^ set(by_name), key=str):
            state = "no site of this model" if name in self.grids else "not in the search space"
            raise ShrinkError(f"{name} is {state}: make the space anew (stage 17)")
        for name, grid in self.grids.items():
            for rank in grid:
                if not by_name[name].allows(rank):
                    raise ShrinkError(
                        f"rank {rank!r} in the grid of {name} is out of range: give 1 to "
                        f"{by_name[name].largest_useful_rank} (below break-even), or {DENSE}"
                    )
            if not grid or list(grid) != sorted(set(grid), key=by_name[name].params_at):
                raise ShrinkError(f"the grid of {name} must hold ascending ranks, each once")

    def save(self, path: Path, sites: Sequence[Site]) -> None:
        """Write the space as YAML that can be edited by hand."""
        document = {
            "sites": {
                site.name: {
                    "kind": site.kind,
                    "shape": list(site.shape),
                    "ranks": list(self.grids[site.name]),
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
                f"{path} is no search space: it needs `sites: {{name: {{ranks: []}}}}`"
            )
        return cls({name: entry["ranks"] for name, entry in sites.items()})


def geometric_space(sites: Sequence[Site], levels: int, min_rank: int) -> SearchSpace:
    """For every site `levels` ranks in geometric steps from `min_rank` to break-even, and dense.

    The steps are geometric since the loss of a matrix falls roughly by a factor, not by an
    amount, with every rank it is given.
    """
    grids: dict[str, list[Rank]] = {}
    for site in sites:
        top = site.largest_useful_rank
        steps = np.geomspace(min(min_rank, top), top, levels)
        grids[site.name] = [*sorted({round(float(step)) for step in steps}), DENSE]
    return SearchSpace(grids)
