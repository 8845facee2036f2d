"""Sites and plans: which weight matrices can be factorised, and the rank each one gets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError

DENSE = "dense"
Rank = int | str  # an int, or DENSE


@dataclass(frozen=True)
class Site:
    """One weight matrix that can be factorised.

    Attributes:
        name: its dotted parameter name in the uncompressed model; the first of them if several
            modules share it.
        shape: (out, in); (vocabulary, dimensions) of an embedding.
        kind: "linear", "pointwise_conv", "embedding" (only looked up), "lstm_input",
            "lstm_recurrent", "gru_input", "gru_recurrent", "cell_input", "cell_recurrent" (of an
            LSTM cell), "gru_cell_input" or "gru_cell_recurrent".
    """

    name: str
    shape: tuple[int, int]
    kind: str

    @property
    def params(self) -> int:
        """Parameters of the dense matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def full_rank(self) -> int:
        """The largest rank the matrix can have."""
        return min(self.shape)

    @property
    def largest_useful_rank(self) -> int:
        """The largest rank whose factors are smaller than the matrix (just below break-even)."""
        return (self.params - 1) // sum(self.shape)

    def allows(self, rank: object) -> bool:
        """Whether `rank` is "dense" or a whole number from 1 to `largest_useful_rank`."""
        if isinstance(rank, bool) or not isinstance(rank, int):
            return rank == DENSE
        return 1 <= rank <= self.largest_useful_rank

    def params_at(self, rank: Rank) -> int:
        """Parameters of the matrix at `rank`."""
        return self.params if rank == DENSE else int(rank) * sum(self.shape)


@dataclass(frozen=True)
class Plan:
    """The rank, or "dense", of every site of one model."""

    ranks: Mapping[str, Rank]

    @property
    def hash(self) -> str:
        """A short digest that two plans share only if their ranks are the same."""
        text = json.dumps(sorted(self.ranks.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def factored(self) -> dict[str, int]:
        """The sites that are not dense, with their ranks."""
        return {name: rank for name, rank in self.ranks.items() if isinstance(rank, int)}

    def check(self, sites: Iterable[Site]) -> None:
        """Hold the plan against a model's sites.

        Raises:
            ShrinkError: a site is unknown or missing, or a rank is out of range.
        """
        by_name = {site.name: site for site in sites}
        unknown = sorted(set(self.ranks) - set(by_name), key=str)
        missing = sorted(set(by_name) - set(self.ranks))
        if unknown:
            raise ShrinkError(
                f"the plan names {unknown[0]}, which is no site of this model: "
                "use a plan that was searched for it"
            )
        if missing:
            raise ShrinkError(f"the plan gives no rank for {missing[0]}: add it, or mark it dense")
        for name, rank in self.ranks.items():
            if not by_name[name].allows(rank):
                raise ShrinkError(
                    f"rank {rank!r} of {name} is out of range: give 1 to "
                    f"{by_name[name].largest_useful_rank} (below break-even), or {DENSE}"
                )

    def save(self, path: str | Path, **header: Any) -> None:
        """Write the plan as YAML; `header` goes above the ranks."""
        document = {**header, "ranks": dict(self.ranks)}
        write_text(path, yaml.safe_dump(document, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote, or one written by hand.

        Raises:
            ShrinkError: no such file, or not a mapping of sites to ranks.
        """
        document = read_yaml(path)
        ranks = document.get("ranks")
        if not isinstance(ranks, dict) or not ranks:
            raise ShrinkError(f"{path} holds no plan: it needs a mapping `ranks: {{site: rank}}`")
        return cls(ranks)


def dense_plan(sites: Iterable[Site]) -> Plan:
    """The plan that changes nothing."""
    return Plan({site.name: DENSE for site in sites})


def plan_params(plan: Plan, sites: Iterable[Site]) -> int:
    """Parameters of all sites under `plan`."""
    return sum(site.params_at(plan.ranks[site.name]) for site in sites)
