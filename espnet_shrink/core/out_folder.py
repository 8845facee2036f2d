"""The folder that all is written to."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from espnet_shrink.errors import ShrinkError

# A training's least: where it starts from, its model, and checkpoint.pth with Adam's two moments.
MODELS_ON_DISK = 5


def check_out(out: Path, retrain: bool) -> None:
    """Refuse a folder that cannot be written to or, to retrain in, that ESPnet would misread.

    Raises:
        ShrinkError: with the reason.
    """
    if any(not letter.isprintable() for letter in str(out)):
        raise ShrinkError(f"{str(out)!r} has control characters in it: choose another folder")
    if retrain and ":" in str(out):
        raise ShrinkError(
            f"{out} has a colon in it, at which ESPnet's trainer splits names of checkpoints: "
            "choose another folder"
        )
    parent = existing(out)
    try:
        if not parent.is_dir():
            raise NotADirectoryError(20, "it is a file")
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        where = "" if parent == out else f" ({parent})"
        raise ShrinkError(
            f"{out} cannot be written to{where}: {error.strerror}: choose another folder"
        ) from error


def check_disk(out: Path, model_mib: float) -> None:
    """Refuse a disk that has no space for one training of a model of that size.

    Raises:
        ShrinkError: with what is there and what is needed.
    """
    if (out / "settings.yaml").exists():
        return  # goes on, and has written some of that
    free_mib = shutil.disk_usage(existing(out)).free / 2**20
    if free_mib < MODELS_ON_DISK * model_mib:
        raise ShrinkError(
            f"the disk of {out} has {free_mib:.1f} MiB left, and retraining a model of "
            f"{model_mib:.1f} MiB needs {MODELS_ON_DISK * model_mib:.1f}: free some, or choose "
            "another folder"
        )


def existing(out: Path) -> Path:
    """`out`, or the first folder above it that is there."""
    absolute = out.absolute()
    return next((p for p in (out, *absolute.parents) if p.exists() or p.is_symlink()), absolute)
