"""Find and load ESPnet's models."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.compat.adapters import (
    LORA,
    adapter_of,
    check_merged,
    without_adapter,
    without_lora,
)
from espnet_shrink.compat.choices import check_choices
from espnet_shrink.compat.criterion import chosen, model_name
from espnet_shrink.compat.elsewhere import tell_fetches
from espnet_shrink.compat.hooks import check_keys
from espnet_shrink.compat.tasks import Task, task_of
from espnet_shrink.core.checkpoints import read_checkpoint
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import model_hash
from espnet_shrink.errors import ShrinkError, first_line, out_of_memory


def espnet_version() -> str:
    """The installed ESPnet's version."""
    try:
        return importlib.metadata.version("espnet")
    except importlib.metadata.PackageNotFoundError as error:
        raise ShrinkError("ESPnet is not installed: pip install espnet") from error


@dataclass(frozen=True)
class LoadedModel:
    """An ESPnet model in eval mode, its training arguments, and where it came from.

    Attributes:
        model: a torch module; of a speech task a `speech_model.SpeechModel`.
        lang_sym, task_sym: what a speech-to-text (OWSM) model is asked for where a text has no
            tags; the names and defaults of ESPnet's inference.
    """

    model: Any
    args: argparse.Namespace
    config: Path
    checkpoint: Path
    task: Task
    lang_sym: str = "<eng>"
    task_sym: str = "<asr>"

    @functools.cached_property
    def hash(self) -> str:
        """The digest of its weights."""
        return model_hash(self.model)

    @functools.cached_property
    def params(self) -> int:
        """All its parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @functools.cached_property
    def described(self) -> dict[str, Any]:
        """Its config.yaml."""
        return read_yaml(self.config)

    @property
    def asked(self) -> dict[str, str]:
        """What the model is asked for, if it can be asked: for the record of what it gave."""
        if self.task.name != "s2t":
            return {}
        return {"lang_sym": self.lang_sym, "task_sym": self.task_sym}

    def asking(self, lang_sym: str | None = None, task_sym: str | None = None) -> LoadedModel:
        """The same, asked for another language and task: `<deu>` or `deu`; None: as before.

        Raises:
            ShrinkError: something is given, and this is no speech-to-text model.
        """
        given = {"lang_sym": lang_sym, "task_sym": task_sym}
        wanted = {key: f"<{tag.strip('<>')}>" for key, tag in given.items() if tag is not None}
        if wanted and self.task.name != "s2t":
            raise ShrinkError(
                f"--{next(iter(wanted))} asks a speech-to-text (OWSM) model, and {self.config} is "
                f"of the task {self.task.name}: leave it out"
            )
        return dataclasses.replace(
            self,
            lang_sym=wanted.get("lang_sym", self.lang_sym),
            task_sym=wanted.get("task_sym", self.task_sym),
        )

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
    tell_fetches(described, config)
    try:
        if lora:
            model, args = _build_merged(task, described, state)
        else:
            model, args = task.builder().build_model_from_file(str(config), str(checkpoint), "cpu")
    except ShrinkError:
        raise
    except ImportError as error:
        raise ShrinkError(
            f"{config} needs a package that ESPnet takes from elsewhere: {error}: install it "
            "(ESPnet's tools/installers have the scripts)"
        ) from error
    except FileNotFoundError as error:
        raise ShrinkError(
            f"{config} names a file that is missing: {error.filename or first_line(error)} (paths "
            "in an ESPnet config are relative to the recipe folder: run from there)"
        ) from error
    except (OSError, MemoryError) as error:
        raise ShrinkError(f"{config}: the model cannot be built: {first_line(error)}") from error
    except Exception as error:  # whatever ESPnet's many classes may raise
        if out_of_memory(error):
            raise ShrinkError(f"{config}: {first_line(error)}") from error
        detail = " ".join(str(error).split())[:400] or type(error).__name__
        raise ShrinkError(f"checkpoint {checkpoint} does not fit {config}: {detail}") from error
    check_keys(model, set(state), config, checkpoint)
    return LoadedModel(model.eval(), args, Path(config), Path(checkpoint), task)


def _build_merged(task: Task, config: dict[str, Any], state: dict[str, Any]) -> Any:
    """The plain model of one with LoRA, and its arguments; needs no loralib."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(without_adapter(config)), encoding="utf-8")
        model, args = task.builder().build_model_from_file(str(path), None, "cpu")
    model.load_state_dict(state, strict=False)
    return model, args
