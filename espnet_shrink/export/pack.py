"""A model as one archive of ESPnet's own kind, with all that its config names, and a model card.

Inside, every path is relative, wherever the files lay: the archive loads anywhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from espnet_shrink.compat.named_files import named_files
from espnet_shrink.compat.packing import pack_folder, rewrite_paths
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError, working_on
from espnet_shrink.sources.source import Source


@dataclass(frozen=True)
class Packed:
    """An archive that was written."""

    archive: Path
    size_mib: float


def pack(source: Source, archive: Path, documents: Mapping[str, str | Path]) -> Packed:
    """Write `archive` (.zip), whole or not at all.

    Args:
        source: the model; its language model and the files that its config names go along.
        documents: name in the archive -> text, or a file to copy: README.md, RESULTS.md, plots.

    Raises:
        ShrinkError: not a .zip, or a file that the config names is missing.
    """
    if archive.suffix != ".zip":
        raise ShrinkError(f"{archive} must be called .zip: ESPnet tells archives by their names")
    with working_on(f"packing {archive}"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".pack", dir=archive.parent))
        try:
            tree = beside / "tree"
            name = source.config.absolute().parent.name
            config = read_yaml(source.config)
            prefix = task_of(config, source.config).packed_as
            configs = {f"{prefix}_train_config": _add_config(source.config, f"exp/{name}", tree)}
            checkpoint = f"exp/{name}/{source.checkpoint.name}"
            files = {f"{prefix}_model_file": _add(source.checkpoint, checkpoint, tree)}
            if source.lm_config is not None and source.lm_checkpoint is not None:
                configs["lm_train_config"] = _add_config(source.lm_config, "exp/lm", tree)
                lm_checkpoint = f"exp/lm/{source.lm_checkpoint.name}"
                files["lm_file"] = _add(source.lm_checkpoint, lm_checkpoint, tree)
            for document, content in documents.items():
                if isinstance(content, Path):
                    _add(content, document, tree)
                else:
                    (tree / document).write_text(content, encoding="utf-8")
            packed = beside / archive.name
            pack_folder(tree, configs, files, packed)
            os.replace(packed, archive)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Packed(archive, archive.stat().st_size / 2**20)


def _add(path: Path, name: str, tree: Path) -> str:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise ShrinkError(f"{path} is missing, and belongs to the model: put it back")
    (tree / name).symlink_to(path.resolve())
    return name


def _add_config(config: Path, folder: str, tree: Path) -> str:
    """The config under `folder`, the files that it names under data/, and named so."""
    document = read_yaml(config)
    moves = {}
    for key, value in named_files(document):
        if value == "none":  # what ESPnet's scripts write for nothing
            continue
        moves[value] = Path(f"data/{Path(folder).name}_{key}{Path(value).suffix}")
        _add(Path(value), str(moves[value]), tree)
    (tree / folder).mkdir(parents=True, exist_ok=True)
    name = f"{folder}/config.yaml"
    text = yaml.safe_dump(rewrite_paths(document, moves), sort_keys=False)
    (tree / name).write_text(text, encoding="utf-8")
    return name
