"""What a packed model says of itself, read without unpacking or executing anything."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from espnet_shrink.compat.packing import DAMAGED
from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.errors import ShrinkError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Of the archives that ESPnet's packer writes."""

META = "meta.yaml"
SHELL = frozenset("$`'\"\\;|&<>*?!{}")
"""Recipes hand names of files on to scripts, and those to shells."""


@dataclass(frozen=True)
class ArchiveNames:
    """Names within a packed model, each relative to its root."""

    config: str
    checkpoint: str
    lm_config: str | None
    lm_checkpoint: str | None
    configs: tuple[str, ...]


def read_archive(archive: Path) -> ArchiveNames:
    """Read the list of an archive and its meta.yaml.

    Raises:
        ShrinkError: damaged, no packed recogniser, or it would write or link outside its folder.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            names, meta = _read_zip(archive)
        else:
            names, meta = _read_tar(archive)
    except DAMAGED as error:
        detail = " ".join(str(error).split())
        raise ShrinkError(f"it cannot be unpacked ({detail}): copy it again") from error
    return read_meta(meta, names)


def _read_zip(archive: Path) -> tuple[list[str], bytes | None]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _link(info.filename)
        names = opened.namelist()
        meta = next((name for name in names if PurePosixPath(name).name == META), None)
        return names, None if meta is None else opened.read(meta)


def _read_tar(archive: Path) -> tuple[list[str], bytes | None]:
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        for member in members:
            # A chain of links that stay inside can lead outside, and the packer writes none.
            if not (member.isfile() or member.isdir()):
                raise _link(member.name)
        names = [member.name for member in members]
        meta = next((m for m in members if PurePosixPath(m.name).name == META), None)
        while opened.fileobj is not None and opened.fileobj.read(2**20):
            pass  # to the checksum at the end, where tarfile does not go
        file = None if meta is None else opened.extractfile(meta)
        return names, None if file is None else file.read()


def _link(name: str) -> ShrinkError:
    return ShrinkError(f"{name} in it is a link or a device: pack it again with espnet2.bin.pack")


def read_meta(meta: bytes | None, names: Iterable[str]) -> ArchiveNames:
    """What a packed model's meta.yaml says, checked against the `names` of its files.

    Raises:
        ShrinkError: missing or damaged, unsafe names, or no recogniser.
    """
    names = set(names)
    for name in names:
        _check_name(name)
    if meta is None:
        raise ShrinkError("no meta.yaml in it: give a model packed by espnet2.bin.pack")
    try:
        document = yaml.safe_load(meta)
    except (yaml.YAMLError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ShrinkError(f"its meta.yaml is not valid YAML: {detail}") from error
    configs, files = _mapping(document, "yaml_files"), _mapping(document, "files")
    for key, name in [*configs.items(), *files.items()]:
        _check_name(name)
        if name not in names:
            raise ShrinkError(f"its meta.yaml names {name} ({key}), which is not in it")
    return _recogniser(configs, files)


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name:
        raise ShrinkError(f"{name!r} in it is an absolute path: pack it from the recipe folder")
    if ".." in path.parts:
        raise ShrinkError(f"{name!r} in it leaves the folder: pack it from the recipe folder")
    if any(c in SHELL or not c.isprintable() for c in name) or name.startswith("-"):
        raise ShrinkError(f"the name {name!r} in it means more than itself to a shell: rename it")


def _mapping(document: Any, key: str) -> Mapping[str, str]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, dict) or not all(
        isinstance(text, str) for pair in found.items() for text in pair
    ):
        raise ShrinkError(f"its meta.yaml has no mapping {key} of names to files")
    return found


def _recogniser(configs: Mapping[str, str], files: Mapping[str, str]) -> ArchiveNames:
    kinds = dict.fromkeys(task.packed_as for task in TASKS.values() if task.name != "lm")
    for kind in kinds:
        config, checkpoint = configs.get(f"{kind}_train_config"), files.get(f"{kind}_model_file")
        if config is not None and checkpoint is not None:
            lm_config, lm_checkpoint = configs.get("lm_train_config"), files.get("lm_file")
            if lm_config is None or lm_checkpoint is None:
                lm_config = lm_checkpoint = None
            return ArchiveNames(
                config, checkpoint, lm_config, lm_checkpoint, tuple(dict.fromkeys(configs.values()))
            )
    raise ShrinkError(
        "its meta.yaml names no model of these tasks with config and checkpoint: "
        f"{', '.join(kinds)} (it has {', '.join([*configs, *files]) or 'nothing'})"
    )
