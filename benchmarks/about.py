"""What every result says of the machine, the versions and the command that it was made with."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding

from espnet_shrink.core.files import write_text

PACKAGES = ("espnet", "torch", "numba", "numpy", "espnet_shrink")


def about() -> dict[str, Any]:
    """Command, processor, cores, and versions."""
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
    }


def write_result(path: Path | None, **document: Any) -> None:
    """Write a result as JSON, unless `path` is None."""
    if path is not None:
        write_text(path, json.dumps({**about(), **document}, indent=1) + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from its sources
