"""The mark that a finished training leaves in its folder: what was trained, and for how long."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from espnet_shrink.core.files import write_text
from espnet_shrink.errors import ShrinkError

MARK = ".trained"


def is_trained(exp: Path, epochs: int, state: Mapping[str, torch.Tensor] | None = None) -> bool:
    """Whether `exp` holds a finished training of `state` for `epochs` epochs.

    Args:
        state: what the training starts from; it is known by the names and shapes of its tensors,
            for a resumed run may find other last digits. None: that is not compared.

    Raises:
        ShrinkError: it holds another training.
    """
    path = exp / MARK
    if not path.exists():
        return False
    mark = yaml.safe_load(path.read_text(encoding="utf-8"))
    remedy = "delete it to train anew, or choose another folder"
    if not isinstance(mark, dict):
        raise ShrinkError(
            f"{exp} was trained by an earlier version of espnet_shrink, which did not write down "
            f"what it trained: {remedy}"
        )
    if mark.get("epochs") != epochs:
        raise ShrinkError(
            f"{exp} holds a training of {mark.get('epochs')} epochs, but now {epochs} are wanted: "
            + remedy
        )
    if state is not None and mark.get("init") != _shapes(state):
        raise ShrinkError(f"{exp} holds a training of a model with other ranks: {remedy}")
    return True


def mark_trained(exp: Path, epochs: int, state: Mapping[str, torch.Tensor]) -> None:
    """Write down that `exp` is a finished training of `state`."""
    write_text(exp / MARK, yaml.safe_dump({"epochs": epochs, "init": _shapes(state)}))


def _shapes(state: Mapping[str, torch.Tensor]) -> str:
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
