"""What a compressed model's config.yaml says of it, and how ESPnet's builder is told.

`adapter_conf` has the digest of the uncompressed model and the steps that made the model small,
each a method and its amounts. One step of low rank is written as `ranks` alone, as all steps were
when there was no other method, and archives of that time are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from espnet_shrink.compat.renames import translate, translate_checkpoints_of
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.registry import method_of
from espnet_shrink.plan import LOWRANK, Plan, Step

BASE = "base_hash"


def adapter_conf(plan: Plan, base_hash: str, method: str = LOWRANK) -> dict[str, Any]:
    """The `adapter_conf` of a model that one method's plan made of the uncompressed one."""
    document = Step(method, plan).document
    return {BASE: base_hash, **(document if method == LOWRANK else {"steps": [document]})}


def steps_of(conf: Mapping[str, Any]) -> list[Step]:
    """The steps of an `adapter_conf`.

    Raises:
        ShrinkError: keys missing or unknown.
    """
    if set(conf) == {BASE, "ranks"} and isinstance(conf["ranks"], dict):
        return [Step(LOWRANK, Plan(conf["ranks"]))]
    if set(conf) == {BASE, "steps"} and isinstance(conf["steps"], list):
        return [_step(entry) for entry in conf["steps"]]
    raise ShrinkError(
        "adapter_conf of `adapter: espnet_shrink` needs exactly base_hash and ranks (or steps), "
        f"but has {', '.join(sorted(map(str, conf))) or 'nothing'}"
    )


def _step(entry: Any) -> Step:
    if isinstance(entry, dict):
        if set(entry) == {"ranks"} and isinstance(entry["ranks"], dict):
            return Step(LOWRANK, Plan(entry["ranks"]))
        if set(entry) == {"method", "amounts"} and isinstance(entry["amounts"], dict):
            return Step(str(entry["method"]), Plan(entry["amounts"]))
    raise ShrinkError(
        f"adapter_conf: a step needs exactly method and amounts, but is {str(entry)[:60]}"
    )


def build_from_conf(model: nn.Module, conf: Mapping[str, Any]) -> None:
    """Give a freshly built model the shapes that `adapter_conf` asks for.

    The values are left to the checkpoint: at this point the weights are random.

    Raises:
        ShrinkError: bad keys, or a plan that does not fit the model.
    """
    for step in steps_of(conf):
        method = method_of(step.method)
        # Names of another ESPnet version's modules are this one's by another name.
        known = {site.name for site in method.survey(model).sites}
        names = translate([n for n in step.plan.amounts if isinstance(n, str)], known)
        amounts = {names.get(name, name): n for name, n in step.plan.amounts.items()}
        method.build(model, Plan(amounts))
    translate_checkpoints_of(model)


def is_compressed(conf: Mapping[str, Any]) -> bool:
    """Whether an `adapter_conf` of ours changes anything."""
    return any(step.plan.factored for step in steps_of(conf))
