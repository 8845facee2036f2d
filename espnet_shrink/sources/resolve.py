"""MODEL of the command line: which of the four kinds it is, and where its files are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from espnet_shrink.compat.models import find_checkpoint, find_model
from espnet_shrink.compat.packing import fetch, rewrite_paths, unpack_archive
from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources.archive import (
    META,
    SUFFIXES,
    read_archive,
    read_meta,
)
from espnet_shrink.sources.source import Source, source_at
from espnet_shrink.sources.unpacked import is_made, make_folder

CHECKPOINTS, CONFIGS = (".pth", ".pt"), (".yaml", ".yml")


def open_source(model: str, folder: Path, checkpoint: str | None = None) -> Source:
    """The files of a trained model.

    Args:
        model: an experiment folder, its config.yaml or a checkpoint in it, all used where they
            are; or a packed model (.zip, .tar.gz, ...) or a tag of Hugging Face or ESPnet's
            model zoo, of which `folder` is made an experiment folder, once.
        folder: where that goes.
        checkpoint: a name beside the config, for a folder or a config.

    Raises:
        ShrinkError: no such model, or one that is damaged, unsafe or unknown to this ESPnet;
            `folder` is then left as it was.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return source_at(model, *find_model(path, checkpoint))
    if path.is_file() and path.suffix in CONFIGS:
        return source_at(model, path, find_checkpoint(path, checkpoint))
    if checkpoint is not None:
        raise ShrinkError(f"{model} says itself which checkpoint it means: leave out {checkpoint}")
    if path.is_file() and path.suffix in CHECKPOINTS:
        return source_at(model, *find_model(path.parent, path.name))
    try:
        if path.is_file():
            _open_archive(model, path, folder)
        else:
            _open_tag(model, folder)
    except OSError as error:
        raise ShrinkError(f"{model} could not be unpacked to {folder}: {error}") from error
    return source_at(model, *find_model(folder))


def _open_archive(model: str, archive: Path, folder: Path) -> None:
    if not archive.name.lower().endswith(SUFFIXES):
        raise ShrinkError(
            f"{model} is no experiment folder, config.yaml, checkpoint (.pth) or packed model "
            f"({', '.join(SUFFIXES)})"
        )
    with archive.open("rb") as opened:
        identity = {"sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
    if not is_made(folder, identity):
        _make(model, archive, folder, identity)


def _make(model: str, archive: Path, folder: Path, identity: dict[str, str]) -> None:
    try:
        packed = read_archive(archive)
        make_folder(folder, model, identity, packed, lambda tree: unpack_archive(archive, tree))
    except ShrinkError as error:
        raise ShrinkError(f"{model}: {error}") from error


def _open_tag(tag: str, folder: Path) -> None:
    if _is_path(tag):
        raise ShrinkError(f"no such file or folder, and not a model tag: {tag}")
    identity = {"tag": tag}
    if is_made(folder, identity):
        return
    fetched = fetch(tag)
    if fetched.is_dir():
        _make_of_repository(tag, fetched, folder, identity)
    else:
        _make(tag, fetched, folder, identity)


def _is_path(text: str) -> bool:
    """Whether this can only be meant as a path: tags are OWNER/NAME, and so is exp/asr_x."""
    owner, _, name = text.partition("/")
    if not owner.strip(" .~") or not name or "/" in name:
        return True
    if name.lower().endswith(SUFFIXES + CONFIGS + CHECKPOINTS):
        return True
    # Many keep a checkout named espnet where they work, and most tags begin with that name.
    return owner != "espnet" and (owner == "exp" or Path(owner).exists())


def _make_of_repository(tag: str, repository: Path, folder: Path, identity: dict[str, str]) -> None:
    """The same of a repository's files as of an archive; the big ones stay in the zoo's cache."""
    files = [path for path in repository.rglob("*") if path.is_file()]
    names = [str(path.relative_to(repository)) for path in files]
    names = sorted(name for name in names if not name.startswith("."))

    def link(tree: Path) -> None:
        # Old versions of the zoo's package write places in the cache into its configs.
        moves = {name: tree / name for name in names}
        moves |= {str(repository / name): tree / name for name in names}
        for name in names:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to((repository / name).resolve())
        for name in packed.configs:
            config = rewrite_paths(read_yaml(repository / name), moves)
            (tree / name).unlink()
            write_text(tree / name, yaml.safe_dump(config))

    try:
        meta = repository / META
        packed = read_meta(meta.read_bytes() if meta.exists() else None, names)
        make_folder(folder, tag, identity, packed, link)
    except ShrinkError as error:
        raise ShrinkError(f"{tag}: {error}") from error
