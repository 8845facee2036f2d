"""Plans: how much of every decision of one model is kept."""

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
from espnet_shrink.plan.decision import DENSE, Amount, Decision

LOWRANK = "lowrank"


@dataclass(frozen=True)
class Plan:
    """The amount, or "dense", of every decision of one model.

    Attributes:
        amounts: by the name of the decision; ranks, if the method is low rank.
    """

    amounts: Mapping[str, Amount]

    @property
    def ranks(self) -> Mapping[str, Amount]:
        """The amounts of a low-rank plan."""
        return self.amounts

    @property
    def hash(self) -> str:
        """A short digest that two plans share only if their amounts are the same."""
        text = json.dumps(sorted(self.amounts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def factored(self) -> dict[str, int]:
        """The decisions that are not dense, with their amounts."""
        return {name: n for name, n in self.amounts.items() if isinstance(n, int)}

    def check(self, decisions: Iterable[Decision]) -> None:
        """Hold the plan against a model's decisions.

        Raises:
            ShrinkError: one is unknown or missing, or an amount is out of range.
        """
        by_name = {decision.name: decision for decision in decisions}
        unknown = sorted(set(self.amounts) - set(by_name), key=str)
        missing = sorted(set(by_name) - set(self.amounts))
        if unknown:
            raise ShrinkError(
                f"the plan names {unknown[0]}, which is no site of this model: "
                "use a plan that was searched for it"
            )
        if missing:
            unit = by_name[missing[0]].unit
            raise ShrinkError(
                f"the plan gives no {unit} for {missing[0]}: add it, or mark it {DENSE}"
            )
        for name, amount in self.amounts.items():
            if not by_name[name].allows(amount):
                raise ShrinkError(
                    f"{by_name[name].unit} {amount!r} of {name} is out of range: give 1 to "
                    f"{by_name[name].largest_useful} (below break-even), or {DENSE}"
                )

    def save(self, path: str | Path, method: str = LOWRANK, **header: Any) -> None:
        """Write the plan as YAML; what `header` has goes above the amounts."""
        told = {key: value for key, value in header.items() if value is not None}
        document = {**told, **Step(method, self).document}
        write_text(path, yaml.safe_dump(document, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote, or one written by hand.

        Raises:
            ShrinkError: no such file, or not a mapping of sites to ranks.
        """
        document = read_yaml(path)
        amounts = document.get("amounts" if "method" in document else "ranks")
        if not isinstance(amounts, dict) or not amounts:
            raise ShrinkError(f"{path} holds no plan: it needs a mapping `ranks: {{site: rank}}`")
        return cls(amounts)


@dataclass(frozen=True)
class Step:
    """One method's plan: what was done to a model.

    Attributes:
        method: its name in methods.registry.
    """

    method: str
    plan: Plan

    @property
    def document(self) -> dict[str, Any]:
        """As plain data; of low rank, `ranks` alone, as it was when there was no other method."""
        amounts = dict(self.plan.amounts)
        if self.method == LOWRANK:
            return {"ranks": amounts}
        return {"method": self.method, "amounts": amounts}


def dense_plan(decisions: Iterable[Decision]) -> Plan:
    """The plan that changes nothing."""
    return Plan({decision.name: DENSE for decision in decisions})


def plan_params(plan: Plan, decisions: Iterable[Decision]) -> int:
    """Parameters of all decisions under `plan`."""
    return sum(decision.params_at(plan.amounts[decision.name]) for decision in decisions)
