"""results.yaml of a folder of ONNX files: what they and torch made of the same sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError

RESULTS = "results.yaml"
Rows = dict[str, dict[str, Any]]
"""Name -> size_mib, memory_mib, metric, and wer, cer, rtf and both intervals by set."""


def write_rows(folder: Path, digest: str, rows: Rows) -> None:
    """Note in `folder` what was decoded with its files.

    Args:
        digest: sha256 of the checkpoint that the files are of.
    """
    document = {"sha256": digest, "rows": rows}
    write_text(folder / RESULTS, yaml.safe_dump(document, sort_keys=False))


def read_rows(folder: Path, digest: str) -> Rows:
    """The rows that were noted in `folder`; none if nothing was decoded.

    Args:
        digest: sha256 of the checkpoint that the files must be of.

    Raises:
        ShrinkError: the files were exported from another checkpoint, or are not ours.
    """
    if not (folder / RESULTS).exists():
        return {}
    document = read_yaml(folder / RESULTS)
    if document.get("sha256") != digest:
        raise ShrinkError(
            f"{folder} was exported from another checkpoint than the one beside it: "
            "delete it and export again"
        )
    rows: Rows = document["rows"]
    return rows
