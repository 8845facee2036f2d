"""A folder that holds one export of one checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import claim_folder, lock_folder, sha256
from espnet_shrink.errors import ShrinkError


@contextlib.contextmanager
def export_folder(out: Path, loaded: LoadedModel, kind: str) -> Iterator[None]:
    """Hold `out` for an export of `kind`; one that was cut off may go on.

    Raises:
        ShrinkError: `out` is a file, holds anything else, or an export of another checkpoint.
    """
    if out.exists() and not out.is_dir():
        raise ShrinkError(f"{out} is a file: give a folder to export to")
    claimed = (out / "settings.yaml").exists() or not out.exists()
    if not claimed and any(path.name != ".lock" for path in out.iterdir()):
        raise ShrinkError(f"{out} holds other files: give a new or empty folder to export to")
    record = {
        "export": kind, "checkpoint": loaded.checkpoint.name, "sha256": sha256(loaded.checkpoint),
    }  # fmt: skip
    with lock_folder(out):
        claim_folder(out, record)
        yield
