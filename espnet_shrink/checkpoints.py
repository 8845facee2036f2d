"""Checkpoints: state dicts of tensors, read without executing anything, written whole."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from espnet_shrink.errors import ShrinkError, first_line
from espnet_shrink.files import write_atomically


def is_factor(key: str) -> bool:
    """Whether a state-dict key names a low-rank factor."""
    return key.endswith(("_U", "_V", ".U.weight", ".V.weight"))


def read_pickle_free(path: str | Path) -> Any:
    """Read tensors in any arrangement; nothing in the file is ever executed.

    Raises:
        ShrinkError: no such file, truncated, or it holds pickled objects.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ShrinkError(f"no such checkpoint: {path}") from error
    except PermissionError as error:
        raise ShrinkError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise ShrinkError(
            f"checkpoint {path} holds pickled objects (or is no checkpoint); it was not loaded: "
            "save model.state_dict() instead"
        ) from error
    except MemoryError as error:
        raise ShrinkError(f"checkpoint {path}: {first_line(error)}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ShrinkError(
            f"checkpoint {path} is truncated or damaged: copy or train it again"
        ) from error


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict of tensors; nothing in the file is ever executed.

    Raises:
        ShrinkError: no such file, truncated, or it holds anything but tensors.
    """
    state = read_pickle_free(path)
    for wrapping in ("module", "state_dict"):  # DeepSpeed's and Lightning's
        if isinstance(state, dict) and isinstance(state.get(wrapping), dict):
            state = state[wrapping]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ShrinkError(
            f"checkpoint {path} is not a model's state dict: "
            "give a model file such as valid.acc.ave.pth"
        )
    return state


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state dict, whole or not at all.

    Raises:
        ShrinkError: the disk is full.
    """
    # Through a Python file, as torch's own writer hides that the disk is full.
    with write_atomically(path) as beside, beside.open("wb") as handle:
        torch.save(dict(state), handle)
