"""How to search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from espnet_shrink.core.settings import require
from espnet_shrink.methods.registry import METHODS
from espnet_shrink.plan import LOWRANK, Budget
from espnet_shrink.search.reward import REWARDS

SEARCHERS = ("reinforce", "uniform", "energy", "energy_order", "zero_sum", "knapsack",
             "sensitivity", "random", "tpe", "cma_es", "nsga2")  # fmt: skip
DECOMPOSITIONS = ("plain", "whitened")


@dataclass(frozen=True)
class SearchSettings:
    """How to search (conf/search.yaml explains every key)."""

    method: str = LOWRANK
    searcher: str = "reinforce"
    reward: str = "hard"
    evaluations: int = 100
    decomposition: str = "whitened"
    min_rank: int = 4
    min_rank_share: float = 0.0
    keep_dense: list[str] = field(default_factory=list)
    rank_multiple: int = 1
    site_limit: float = math.inf
    finalists: int = 10
    rollouts: int = 8
    size_mib: float = math.inf
    macs_per_audio_second: float = math.inf
    rtf: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS), ("searcher", SEARCHERS), ("reward", REWARDS),
            ("decomposition", DECOMPOSITIONS),
        ):  # fmt: skip
            value = getattr(self, name)
            require(value in known, f"unknown {name} {value}: choose of {', '.join(known)}")
        for name in ("evaluations", "min_rank", "rank_multiple", "finalists"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(
            0.0 <= self.min_rank_share <= 1.0,
            f"min_rank_share must be from 0 to 1, not {self.min_rank_share:g}",
        )
        for pattern in self.keep_dense:
            require(
                isinstance(pattern, str) and bool(pattern.strip()),
                f"keep_dense must hold patterns of site names such as ctc*, not {pattern!r}",
            )
        require(self.rollouts >= 2, "rollouts must be at least 2: they are compared")
        require(0 <= self.seed < 2**63, "seed must be from 0 to 2**63 - 1")
        require(self.site_limit >= 0, "site_limit must not be negative")
        for name in ("size_mib", "macs_per_audio_second", "rtf"):
            require(getattr(self, name) > 0, f"{name} must be above 0")

    def budget(self, params: float) -> Budget:
        """The limits that are set here, and one of parameters."""
        return Budget(params, self.size_mib, self.macs_per_audio_second, self.rtf)

    @property
    def limited(self) -> bool:
        """Whether there is any limit but that of parameters."""
        return self.budget(math.inf) != Budget()
