"""Presets: every setting of a search and of rounds in a YAML file, with its meaning and default."""

from __future__ import annotations

import shutil
from pathlib import Path

from espnet_shrink.core.files import write_atomically
from espnet_shrink.errors import ShrinkError

FOLDER = Path(__file__).parent


def presets() -> dict[str, Path]:
    """Name -> file of every preset that comes with the package."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def first_line(path: Path) -> str:
    """What a preset is for, in its own words."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def copy_presets(folder: Path) -> list[Path]:
    """Copy all presets into `folder`, to be edited there; gives the copies.

    Raises:
        ShrinkError: one is there already (none is copied then), or `folder` cannot be written.
    """
    copies = {source: folder / source.name for source in presets().values()}
    there = [str(copy) for copy in copies.values() if copy.exists() or copy.is_symlink()]
    if there:
        raise ShrinkError(f"{there[0]} is there already and is left as it is: choose another --out")
    try:
        for source, copy in copies.items():
            with write_atomically(copy) as beside:
                shutil.copyfile(source, beside)
    except OSError as error:
        raise ShrinkError(f"cannot write to {folder} ({error.strerror})") from error
    return list(copies.values())
