"""Checks of what was unpacked, before any of it is used."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_shrink.compat.choices import check_choices
from espnet_shrink.compat.elsewhere import fetches
from espnet_shrink.compat.named_files import named_files
from espnet_shrink.compat.packed_config import without_authors_files
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.core.checkpoints import read_checkpoint, read_pickle_free
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources.archive import ArchiveNames


def check_contents(tree: Path, packed: ArchiveNames) -> None:
    """Refuse what would execute code, what ESPnet does not know, and what is not all there.

    Raises:
        ShrinkError: without changing anything.
    """
    _check_config(tree, packed.config)
    read_checkpoint(tree / packed.checkpoint)
    if packed.lm_config is not None and packed.lm_checkpoint is not None:
        task = _check_config(tree, packed.lm_config)
        if task != "lm":
            raise ShrinkError(f"{packed.lm_config} is of task {task}, not of a language model")
        read_checkpoint(tree / packed.lm_checkpoint)
    models = {tree / packed.checkpoint, tree / (packed.lm_checkpoint or packed.checkpoint)}
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        if path.suffix in (".pth", ".pt") and path not in models:
            read_pickle_free(path)
        elif path.suffix in (".npy", ".npz"):
            _check_arrays(path)


def _check_config(tree: Path, config_name: str) -> str:
    path = tree / config_name
    config = read_yaml(path)
    task = task_of(config, path)
    config, _ = without_authors_files(config, task)
    check_choices(task, config, path)
    _check_values(tree, path, config)
    for key, name in named_files(config):
        # Within: whoever packs the model again would give away any other file that it names.
        within = Path(name).is_relative_to(tree) and ".." not in Path(name).parts
        if not (within and Path(name).is_file()):
            raise ShrinkError(
                f"{path} names {name} ({key}), which was not packed along: pack it again from "
                f"the recipe folder, with --option {name}"
            )
    return task.name


def _check_values(tree: Path, path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a config that would run code from elsewhere or read files that were not packed."""
    for fetch in fetches(config):
        if fetch.executes:
            raise ShrinkError(
                f"{path}: {fetch}, which no packed model may: if you trust its author, unpack it "
                "yourself and give its checkpoint"
            )
    for key, value in _values(config):
        # Hydra builds any class of such a name; OmegaConf runs what stands in braces.
        if key.endswith("_target_") or (isinstance(value, str) and "${" in value):
            raise ShrinkError(f"{path}: {key}: {value!r} could run code: ESPnet writes no such key")
        if key.endswith("trust_remote_code") and value:
            raise ShrinkError(f"{path}: {key} could run code from elsewhere: no packed model may")
        if isinstance(value, str) and _is_other_file(value, tree):
            raise ShrinkError(f"{path} names {value} ({key}), a file of this machine")


def _values(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key.key..., scalar) of a config, but for its lists of tokens."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not (str(name).endswith("token_list") and isinstance(inner, list)):
                yield from _values(inner, f"{key}.{name}" if key else f"{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)
    else:
        yield key, value


def _is_other_file(text: str, tree: Path) -> bool:
    name = Path(text)
    if name.is_relative_to(tree) and ".." not in name.parts:
        return False
    with contextlib.suppress(OSError, ValueError):  # too long for a name, or a zero byte
        return ("/" in text or "." in text) and name.is_file()
    return False


def _check_arrays(path: Path) -> None:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                for name in loaded.files:
                    loaded[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise ShrinkError(f"{path} holds pickled objects; it was not loaded") from error
        raise ShrinkError(f"{path} is truncated or damaged: copy it again") from error
