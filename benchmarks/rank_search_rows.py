"""What rank_search.py can compare: searchers, REINFORCE less a device of it, rewards, spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet_shrink.search.searchers.uniform import uniform


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        searcher: of espnet_shrink, or a module beside this file with a function `search`.
        settings: changes of SearchSettings.
        constants: changes of espnet_shrink.search.searchers.reinforce.
    """

    searcher: str = "reinforce"
    settings: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decomposition(self) -> str:
        """Of the weights."""
        return str(self.settings.get("decomposition", "whitened"))


SEARCHERS = {
    "uniform": Row("uniform"),
    "energy": Row("energy"),
    "energy_order (plain)": Row("energy_order", {"decomposition": "plain"}),
    "energy_order": Row("energy_order"),
    "zero_sum": Row("zero_sum"),
    "sensitivity": Row("sensitivity"),
    "knapsack": Row("knapsack"),
    "random": Row("random"),
    "tpe": Row("tpe"),
    "cma_es": Row("cma_es"),
    "nsga2": Row("nsga2"),
    "ppo": Row("ppo"),
    "reinforce": Row(),
}

DEVICES = {
    "reinforce": Row(),
    "from the uniform plan": Row(constants={"RULES": {"uniform": uniform}}),
    "no learning": Row(constants={"MEAN_RATE": 0.0, "SPREAD_RATE": 0.0}),
    "fixed spread": Row(constants={"SPREAD_RATE": 0.0}),
    "twice the spread": Row(constants={"SPREAD": 0.4}),
    "4 rollouts an update": Row(settings={"rollouts": 4}),
    "16 rollouts an update": Row(settings={"rollouts": 16}),
    "no second look on dev": Row(settings={"finalists": 1}),
    "CMA-ES from the same plan": Row("cma_es_from_rules"),
}

REWARDS = {
    reward: Row(settings={"reward": reward})
    for reward in ("hard", "soft", "constant", "proportional")
}

SPACES = {
    "random": Row("random"),
    "random, sites within 0.5": Row("random", {"site_limit": 0.5}),
    "reinforce": Row(),
    "reinforce, sites within 0.5": Row(settings={"site_limit": 0.5}),
    "reinforce, multiples of 8": Row(settings={"rank_multiple": 8}),
}

TABLES = {"searchers": SEARCHERS, "devices": DEVICES, "rewards": REWARDS, "spaces": SPACES}
