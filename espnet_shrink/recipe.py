"""The recipe in an ESPnet checkout: its own files, and links to the checkout's scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from espnet_shrink.errors import ShrinkError

RECIPE = Path("egs2/librispeech/asr_shrink")
TEMPLATE = Path("egs2/TEMPLATE/asr1")
# setup.py puts the same files into the wheel.
OWN = ("README.md", "run.sh", "db.sh", "conf/*.yaml", "local/*.sh", "local/*.py")
# As ESPnet's own TEMPLATE/asr1/setup.sh does for a new recipe; conf/*.conf is the clusters'.
COPIED = ("cmd.sh", "conf/*.conf")
LINKED = ("asr.sh", "path.sh", "scripts", "pyscripts", "steps", "utils")


def install_recipe(checkout: Path, link: bool = False) -> Path:
    """Put the recipe into an ESPnet checkout, whole or not at all.

    Args:
        checkout: root of the checkout.
        link: link to the recipe's files instead of copying them.

    Returns:
        The recipe's folder in the checkout.

    Raises:
        ShrinkError: `checkout` is none, it has such a folder already, or cannot be written to.
    """
    template = checkout / TEMPLATE
    if not (template / "asr.sh").exists():
        raise ShrinkError(
            f"{checkout} is no ESPnet checkout: it has no {TEMPLATE}/asr.sh; give the folder that "
            "`git clone https://github.com/espnet/espnet` makes"
        )
    folder = checkout / RECIPE
    if os.path.lexists(folder):
        raise ShrinkError(
            f"{folder} exists already and is left as it is: move it away to get the recipe anew "
            "(what you ran there is in its data, dump and exp)"
        )
    source = _source()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for own in _matches(source, OWN):
            _place(source / own, beside / own, link)
        for copied in _matches(template, COPIED):
            _place(template / copied, beside / copied, link=False)
        for name in LINKED:
            if (template / name).exists():
                (beside / name).symlink_to(Path("../../TEMPLATE/asr1") / name)
        beside.rename(folder)
    except OSError as error:
        raise ShrinkError(f"cannot write {error.filename}: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _source() -> Path:
    """The recipe beside this package in a source tree, or within it if it was installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "recipe_files", package.parent / RECIPE):
        if (folder / "run.sh").exists():
            return folder
    raise ShrinkError(f"{package} was installed without the recipe: install espnet_shrink anew")


def _matches(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            yield path.relative_to(folder)


def _place(source: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source)
        return
    shutil.copyfile(source, target)
    # Not every installer keeps permissions.
    if source.read_bytes().startswith(b"#!"):
        target.chmod(0o755)
