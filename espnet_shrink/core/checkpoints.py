"""Checkpoints: state dicts of tensors, read without executing anything, written whole."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.torch_version import TorchVersion

from espnet_shrink.core.files import write_atomically
from espnet_shrink.errors import ShrinkError, first_line

SAFE_TORCH = "2.6"  # before it, weights_only=True could be made to execute code (CVE-2025-32434)


def read_pickle_free(path: str | Path) -> Any:
    """Read tensors in any arrangement; nothing in the file is ever executed.

    Raises:
        ShrinkError: no such file, truncated, it holds pickled objects, or torch is too old.
    """
    if TorchVersion(torch.__version__) < SAFE_TORCH:
        raise ShrinkError(
            f"torch {torch.__version__} can be made to execute code by a checkpoint "
            f"(CVE-2025-32434), so {path} was not read: pip install 'torch>=2.6'"
        )
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


def types_in(path: str | Path) -> dict[str, torch.dtype]:
    """Name -> type of the floating-point tensors of a checkpoint; raises as `read_checkpoint`."""
    state = read_checkpoint(path)
    return {name: tensor.dtype for name, tensor in state.items() if tensor.is_floating_point()}


def stored_like(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """`state` in the types of number of the checkpoint at `path`, which models forget.

    What that does not have, such as factors, gets the type that most of its tensors have. What
    shares memory shares it after.
    """
    types = types_in(path)
    usual = Counter(types.values()).most_common(1)[0][0] if types else torch.float32
    made: dict[tuple[object, ...], torch.Tensor] = {}
    stored = {}
    for name, tensor in state.items():
        wanted = types.get(name, usual) if tensor.is_floating_point() else tensor.dtype
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, wanted)
        stored[name] = made.setdefault(place, tensor.to(wanted))
    return stored


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state dict, whole or not at all.

    Raises:
        ShrinkError: the disk is full.
    """
    # Through a Python file, as torch's own writer hides that the disk is full.
    with write_atomically(path) as beside, beside.open("wb") as handle:
        torch.save(dict(state), handle)
