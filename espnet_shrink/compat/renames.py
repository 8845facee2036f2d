"""Modules that ESPnet renamed: models made with one version are read by another.

ESPnet 202611 calls `embed.out` what was `embed.out.0` in the subsampling of Conformers and their
kin. It upgrades plain checkpoints while it loads them; names of plans and factors are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RENAMED = [(".embed.out.0.", ".embed.out.")]


def translate(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Every name -> its name in this ESPnet: itself, or the renamed one if only that is known."""
    return {name: _one(name, known) for name in names}


def _one(name: str, known: Collection[str]) -> str:
    if name not in known:
        for old, new in RENAMED:
            for one, other in ((old, new), (new, old)):
                renamed = name.replace(one, other, 1)
                if renamed != name and renamed in known:
                    return renamed
    return name


def translate_checkpoints_of(model: torch.nn.Module) -> None:
    """Let `model` load state dicts that were written by another ESPnet."""

    def rename(module: Any, state_dict: dict[str, Any], *_: Any) -> None:
        for name, here in translate(list(state_dict), set(module.state_dict())).items():
            if here != name:
                state_dict[here] = state_dict.pop(name)

    model.register_load_state_dict_pre_hook(rename)


def factored_name(key: str) -> str | None:
    """The matrix whose low-rank factor a state-dict key names; None: it names none."""
    for end, dense in (("_U", ""), ("_V", ""), (".U.weight", ".weight"), (".V.weight", ".weight")):
        if key.endswith(end):
            return key.removesuffix(end) + dense
    return None
