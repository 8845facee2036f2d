"""Checks of what was unpacked, before any of it is used."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from espnet_shrink.checkpoints import read_checkpoint, read_pickle_free
from espnet_shrink.compat.choices import check_choices
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import read_yaml
from espnet_shrink.sources.archive import Packed
from espnet_shrink.sources.source import named_files


def check_contents(tree: Path, packed: Packed) -> None:
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
    check_choices(task, config, path)
    for key, name in named_files(config):
        # Within: whoever packs the model again would give away any other file that it names.
        within = Path(name).is_relative_to(tree) and ".." not in Path(name).parts
        if not (within and Path(name).is_file()):
            raise ShrinkError(
                f"{path} names {name} ({key}), which was not packed along: pack it again from "
                f"the recipe folder, with --option {name}"
            )
    return task.name


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
