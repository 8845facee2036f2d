"""Find and load ESPnet's models."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.checkpoints import read_checkpoint
from espnet_shrink.compat.adapters import (
    LORA,
    adapter_of,
    check_merged,
    without_adapter,
    without_lora,
)
from espnet_shrink.compat.choices import check_choices
from espnet_shrink.compat.criterion import chosen, model_name
from espnet_shrink.compat.hooks import check_keys
from espnet_shrink.compat.tasks import Task, task_of
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml


def espnet_version() -> str:
    """The installed ESPnet's version."""
    try:
        return importlib.metadata.version("espnet")
    except importlib.metadata.PackageNotFoundError as error:
        raise ShrinkError("ESPnet is not installed: pip install espnet") from error


@dataclass(frozen=True)
class LoadedModel:
    """An ESPnet model in eval mode, its training arguments, and where it came from."""

    model: Any
    args: argparse.Namespace
    config: Path
    checkpoint: Path
    task: Task

    def copy(self) -> LoadedModel:
        """The same with weights of its own."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model))


def find_model(exp: str | Path, checkpoint: str | None = None) -> tuple[Path, Path]:
    """The config and checkpoint of an ESPnet experiment folder.

    Without `checkpoint` (a name inside the folder) it is the file that the config's own
    best_model_criterion names: valid.acc.ave.pth, valid.cer_ctc.ave.pth, valid.loss.best.pth, ...

    Raises:
        ShrinkError: no such folder, config or checkpoint, or a link to a missing file.
    """
    folder = Path(exp)
    if not folder.is_dir():
        raise ShrinkError(f"no such experiment folder: {folder}")
    config = folder / "config.yaml"
    if not config.exists():
        raise ShrinkError(f"{folder} has no config.yaml: give an ESPnet experiment folder")
    return config, find_checkpoint(config, checkpoint)


def find_checkpoint(config: Path, checkpoint: str | None = None) -> Path:
    """The checkpoint beside a config.yaml, as `find_model` chooses it.

    Raises:
        ShrinkError: there is none, or it is a link to a missing file.
    """
    folder, described = config.parent, read_yaml(config)
    path = chosen(folder, described) if checkpoint is None else folder / checkpoint
    if path is not None and path.is_symlink() and not path.exists():
        raise ShrinkError(
            f"{path} is a link to {path.readlink()}, which is missing: put that file back, or name "
            "another checkpoint"
        )
    if path is None or not path.exists():
        wanted = checkpoint or f"checkpoint (looked for {model_name(described)} and its like)"
        raise ShrinkError(f"{folder} has no {wanted}: train the model first, or name its file")
    return path


def load_model(config: str | Path, checkpoint: str | Path) -> LoadedModel:
    """Build an ESPnet model and fill it, refusing a checkpoint that does not fit exactly.

    A model with LoRA is loaded as the plain one with the adapter merged into its weights.

    From then on LSTMs of this process take the fused path on a CPU.

    Raises:
        ShrinkError: files missing, damaged or of different models.
    """
    from espnet_shrink.layers import use_padded_lstm

    use_padded_lstm()  # all that is done with the model from here on runs LSTMs
    state = read_checkpoint(checkpoint)
    described = read_yaml(config)
    task = task_of(described, config)
    check_choices(task, described, config)
    lora = adapter_of(described) == LORA
    if lora:
        check_merged(state, described, Path(checkpoint))
        state = without_lora(state)
    try:
        if lora:
            model, args = _build_merged(task, described, state)
        else:
            model, args = task.builder().build_model_from_file(str(config), str(checkpoint), "cpu")
    except ImportError as error:
        raise ShrinkError(
            f"{config} needs a package that ESPnet takes from elsewhere: {error}: install it "
            "(ESPnet's tools/installers have the scripts)"
        ) from error
    except (
        RuntimeError, AssertionError, TypeError, AttributeError, ValueError, KeyError,
    ) as error:  # fmt: skip
        detail = " ".join(str(error).split())[:400]
        raise ShrinkError(f"checkpoint {checkpoint} does not fit {config}: {detail}") from error
    except FileNotFoundError as error:
        raise ShrinkError(
            f"{config} names a file that is missing: {error.filename} (paths in an ESPnet config "
            "are relative to the recipe folder: run from there)"
        ) from error
    check_keys(model, set(state), True, config, checkpoint)
    return LoadedModel(model.eval(), args, Path(config), Path(checkpoint), task)


def _build_merged(task: Task, config: dict[str, Any], state: dict[str, Any]) -> Any:
    """The plain model of one with LoRA, and its arguments; needs no loralib."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(without_adapter(config)), encoding="utf-8")
        model, args = task.builder().build_model_from_file(str(path), None, "cpu")
    model.load_state_dict(state, strict=False)
    return model, args
