"""An experiment folder of a packed model: whole, or not there.

FOLDER/source.yaml         where it came from: written first; later, what configs lost
FOLDER/packed/             what was packed, with paths in configs rewritten
FOLDER/valid.acc.ave.pth   a link to the checkpoint in packed/, whatever its name there
FOLDER/lm/                 the language model that was packed along, in the same way
FOLDER/config.yaml         the packed config without its author's data, logs and other models:
                           written last, as without it this is no experiment folder
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.compat.packed_config import without_authors_files
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.core.files import lock_folder, read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources.archive import ArchiveNames
from espnet_shrink.sources.contents import check_contents
from espnet_shrink.sources.source import LM, RECORD, TREE

CONFIG = "config.yaml"
# The names that recipes decode with when they are not told others.
CHECKPOINT, LM_CHECKPOINT = "valid.acc.ave.pth", "valid.loss.ave.pth"


def is_made(folder: Path, identity: Mapping[str, str]) -> bool:
    """Whether `folder` is the finished experiment folder of this very model.

    Args:
        identity: entries of source.yaml by which it is known.

    Raises:
        ShrinkError: the folder holds anything else.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ShrinkError(f"{folder} is a file: choose another folder")
    if not (folder / RECORD).exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise ShrinkError(f"{folder} is not empty (it has {others[0]}): choose a new folder")
        return False
    before = read_yaml(folder / RECORD)
    if any(before.get(key) != value for key, value in identity.items()):
        raise ShrinkError(
            f"{folder} was made for another model, {before.get('origin')}: "
            "choose another folder, or delete this one"
        )
    if not (folder / CONFIG).exists() or "left_out" not in before:
        return False  # a run that was killed, or of a version that left its author's files in
    if not (folder / CHECKPOINT).exists():
        raise ShrinkError(
            f"what {folder / CHECKPOINT} links to is gone: delete {folder} and unpack it again"
        )
    return True


def make_folder(
    folder: Path,
    origin: str,
    identity: Mapping[str, str],
    packed: ArchiveNames,
    unpack: Callable[[Path], None],
) -> None:
    """Make `folder` an experiment folder; on any error it is left as it was.

    Args:
        unpack: fills the folder that it is given (an absolute path).

    Raises:
        ShrinkError: refused contents, or a folder that holds something else.
    """
    folder = folder.absolute()
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with lock_folder(folder):
        if is_made(folder, identity):
            return
        try:
            record: dict[str, Any] = {"origin": origin, **identity, "checkpoint": packed.checkpoint}
            write_text(folder / RECORD, yaml.safe_dump(record, sort_keys=False))
            tree = folder / TREE
            shutil.rmtree(tree, ignore_errors=True)
            unpack(tree)
            _check(tree, packed)
            _finish(folder, packed, record)
        except BaseException:
            _remove(folder, new)
            raise


def _check(tree: Path, packed: ArchiveNames) -> None:
    try:
        check_contents(tree, packed)
    except ShrinkError as error:  # by the names that the packed files have
        raise ShrinkError(str(error).replace(f"{tree}/", "")) from error


def _finish(folder: Path, packed: ArchiveNames, record: dict[str, Any]) -> None:
    tree = folder / TREE
    config, record["left_out"] = _without_authors_files(tree / packed.config)
    _link(folder / CHECKPOINT, tree / packed.checkpoint)
    if packed.lm_config is not None and packed.lm_checkpoint is not None:
        _link(folder / LM / LM_CHECKPOINT, tree / packed.lm_checkpoint)
        lm_config, record["lm_left_out"] = _without_authors_files(tree / packed.lm_config)
        write_text(folder / LM / CONFIG, lm_config)
    write_text(folder / RECORD, yaml.safe_dump(record, sort_keys=False))
    write_text(folder / CONFIG, config)


def _without_authors_files(path: Path) -> tuple[str, list[str]]:
    config = read_yaml(path)
    config, left_out = without_authors_files(config, task_of(config, path))
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True), left_out


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _remove(folder: Path, new: list[Path]) -> None:
    for name in (TREE, LM):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (CONFIG, CHECKPOINT, RECORD):
        (folder / name).unlink(missing_ok=True)
    if new:
        (folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: somebody else is there
            for path in new:
                path.rmdir()
