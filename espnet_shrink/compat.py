"""All that is known of ESPnet's inside and of the differences between its versions.

Tested with ESPnet 202511 and 202611. Facts used here:
- `create_adapter_fn_table` maps `adapter:` of a config to a function that changes a freshly
  built model; training and inference both call it before any checkpoint is read.
- `AbsTask.build_model_from_file` loads checkpoints with strict=False, so keys that do not fit
  are dropped without a word.
- `Trainer.run` writes checkpoint.pth, then Nepoch.pth, each straight to its final name.
- Functions are decorated with `typeguard.typechecked`, taken from typeguard at import.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wrapt

from espnet_shrink.checkpoints import is_factor, read_checkpoint
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml, write_atomically

if TYPE_CHECKING:
    import torch

ADAPTER = "shrink"
_registered = False


def espnet_version() -> str:
    """The installed ESPnet's version."""
    try:
        return importlib.metadata.version("espnet")
    except importlib.metadata.PackageNotFoundError as error:
        raise ShrinkError("ESPnet is not installed: pip install espnet") from error


def register() -> None:
    """Teach ESPnet `adapter: shrink` and key checks, now or as soon as it is imported."""
    global _registered
    if _registered:
        return
    _registered = True
    wrapt.register_post_import_hook(_add_adapter, "espnet2.layers.create_adapter")
    wrapt.register_post_import_hook(_check_loading, "espnet2.tasks.abs_task")


def skip_type_checks() -> None:
    """Let ESPnet start in less than half the time, in this process; call it before its import.

    typeguard rewrites and compiles the functions of ESPnet and of its dependencies anew at every
    import (8 of 13 s of CPU time), and checks every call. Arguments are no longer checked.
    """

    def unchecked(function: Any = None, **settings: Any) -> Any:
        return unchecked if function is None else function

    def replace(typeguard: Any) -> None:
        typeguard.typechecked = unchecked

    wrapt.register_post_import_hook(replace, "typeguard")


def _add_adapter(module: Any) -> None:
    def create(model: torch.nn.Module, **conf: Any) -> None:
        from espnet_shrink.lowrank.build import build_from_conf

        build_from_conf(model, conf)

    module.create_adapter_fn_table[ADAPTER] = create


def _check_loading(module: Any) -> None:
    original = module.AbsTask.build_model_from_file.__func__

    @functools.wraps(original)
    def build_model_from_file(
        cls: Any, config_file: Any = None, model_file: Any = None, device: str = "cpu"
    ) -> Any:
        keys = None if model_file is None else set(read_checkpoint(model_file))
        model, args = original(cls, config_file, model_file, device)
        if keys is not None:
            compressed = getattr(args, "adapter", None) == ADAPTER and args.use_adapter
            _check_keys(model, keys, compressed, config_file, model_file)
        return model, args

    module.AbsTask.build_model_from_file = classmethod(build_model_from_file)


def _check_keys(
    model: torch.nn.Module, keys: set[str], compressed: bool, config: Any, checkpoint: Any
) -> None:
    wanted = set(model.state_dict())
    missing, unexpected = sorted(wanted - keys), sorted(keys - wanted)
    # ESPnet leaves some keys out on purpose (frozen upstreams); ours never miss one.
    if (missing or unexpected) and (compressed or any(map(is_factor, unexpected))):
        raise ShrinkError(
            f"checkpoint {checkpoint} does not fit config {config}: "
            f"missing keys: {_few(missing)}; unexpected keys: {_few(unexpected)}; "
            "use the config.yaml that was written with this checkpoint"
        )


def _few(names: list[str], most: int = 6) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


@dataclass(frozen=True)
class LoadedModel:
    """An ESPnet ASR model in eval mode, its training arguments, and where it came from."""

    model: Any
    args: argparse.Namespace
    config: Path
    checkpoint: Path


def find_model(exp: str | Path, checkpoint: str | None = None) -> tuple[Path, Path]:
    """The config and checkpoint of an ESPnet experiment folder.

    Without `checkpoint` (a name inside the folder) the first of valid.acc.ave.pth,
    valid.loss.ave.pth, valid.acc.best.pth and latest.pth that exists is taken.

    Raises:
        ShrinkError: no such folder, config or checkpoint.
    """
    folder = Path(exp)
    if not folder.is_dir():
        raise ShrinkError(f"no such experiment folder: {folder}")
    config = folder / "config.yaml"
    if not config.exists():
        raise ShrinkError(f"{folder} has no config.yaml: give an ESPnet experiment folder")
    usual = ["valid.acc.ave.pth", "valid.loss.ave.pth", "valid.acc.best.pth", "latest.pth"]
    for name in [checkpoint] if checkpoint else usual:
        if (folder / name).exists():
            return config, folder / name
    wanted = checkpoint or "checkpoint (looked for " + ", ".join(usual) + ")"
    raise ShrinkError(f"{folder} has no {wanted}: train the model first, or name its file")


def load_asr_model(config: str | Path, checkpoint: str | Path) -> LoadedModel:
    """Build an ESPnet ASR model and fill it, refusing a checkpoint that does not fit exactly.

    From then on LSTMs of this process take the fused path on a CPU.

    Raises:
        ShrinkError: files missing, damaged or of different models.
    """
    from espnet_shrink.layers import use_padded_lstm

    use_padded_lstm()  # all that is done with the model from here on runs LSTMs
    state = read_checkpoint(checkpoint)
    args = _read_args(config)
    ASRTask = _asr_task()
    try:
        model, args = ASRTask.build_model_from_file(str(config), str(checkpoint), "cpu")
    except (RuntimeError, AssertionError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())[:400]
        raise ShrinkError(f"checkpoint {checkpoint} does not fit {config}: {detail}") from error
    except FileNotFoundError as error:
        raise ShrinkError(
            f"{config} names a file that is missing: {error.filename} (paths in an ESPnet config "
            "are relative to the recipe folder: run from there)"
        ) from error
    wanted = set(model.state_dict())
    if wanted != set(state):
        _check_keys(model, set(state), True, config, checkpoint)
    return LoadedModel(model.eval(), args, Path(config), Path(checkpoint))


def _read_args(config: str | Path) -> dict[str, Any]:
    args = read_yaml(config)
    if "encoder" not in args or "token_list" not in args:
        raise ShrinkError(f"{config} is not the config.yaml of a trained ESPnet ASR model")
    return args


def _asr_task() -> Any:
    # At import, ESPnet tells what it could also use, and g2p_en asks the network for data that no
    # ASR model needs; both would drown our own lines.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from espnet2.tasks.asr import ASRTask

    return ASRTask


def text_converter(args: argparse.Namespace) -> Callable[[Iterable[int]], str]:
    """A function from token ids to text, as ESPnet's inference makes it."""
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.token_id_converter import TokenIDConverter

    converter = TokenIDConverter(token_list=args.token_list)
    if args.token_type == "bpe":
        tokenizer = build_tokenizer(token_type="bpe", bpemodel=args.bpemodel)
    else:
        tokenizer = build_tokenizer(token_type=args.token_type)

    def to_text(token_ids: Iterable[int]) -> str:
        return str(tokenizer.tokens2text(converter.ids2tokens(list(token_ids))))

    return to_text


def token_ids(args: argparse.Namespace) -> Callable[[str], list[int]]:
    """A function from text to token ids, as ESPnet's training makes them."""
    preprocess = _asr_task().build_preprocess_fn(args, False)

    def to_ids(text: str) -> list[int]:
        if preprocess is None:
            raise ShrinkError("the model's config says use_preprocessor: false: no tokenizer known")
        return [int(token) for token in preprocess("", {"text": text})["text"]]

    return to_ids


def training_config(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config for asr_train that repeats the training of config.yaml `base` with `changes`."""
    unknown_to_the_parser = {"version", "config"}
    # Set by the launcher for the machine of the first training.
    launch = {key for key in base if key.startswith("dist_")} | {"distributed", "required"}
    kept = {k: v for k, v in base.items() if k not in unknown_to_the_parser | launch}
    return {**kept, **changes}


def train_command(config: Path) -> list[str]:
    """The command that runs ESPnet's own ASR trainer with the plugin on a config file."""
    return [sys.executable, "-m", "espnet_shrink.run", "-m", "espnet2.bin.asr_train",
            "--config", str(config)]  # fmt: skip


def trained_epochs(exp: Path) -> int:
    """Epochs that the trainer has finished in `exp`; 0 if it left no Nepoch.pth."""
    # checkpoint.pth knows it too, but holds pickled objects. The last epoch's model is never
    # deleted, however few are kept.
    names = [re.fullmatch(r"(\d+)epoch\.pth", path.name) for path in exp.glob("*epoch.pth")]
    return max((int(name.group(1)) for name in names if name), default=0)


def save_checkpoints_whole() -> None:
    """Make torch.save write beside and rename, so that a killed training can always resume.

    Beside each checkpoint.pth the model of its epoch is written first: ESPnet writes it later,
    and a kill in between would leave an epoch without a model.
    """
    import torch

    original = torch.save

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, (str, os.PathLike)):
            original(obj, f, *args, **kwargs)
            return
        path = Path(f)
        if path.name == "checkpoint.pth" and isinstance(obj, dict) and "reporter" in obj:
            save(obj["model"], path.with_name(f"{obj['reporter']['epoch']}epoch.pth"))
        # Through a Python file, as torch's own writer hides that the disk is full.
        with write_atomically(path) as beside, beside.open("wb") as handle:
            original(obj, handle, *args, **kwargs)

    torch.save = save
