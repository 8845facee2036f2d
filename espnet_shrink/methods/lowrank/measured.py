"""What was measured on this machine, kept from one process to the next."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding
import msgspec
import torch
import yaml
from filelock import FileLock

from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import DENSE

Times = float | dict[int | str, float]
"""Seconds, or those of every rank."""

TIMED_BY = ("layers/*.py", "methods/lowrank/timing.py")  # of our own code
WAIT_S = 60.0  # for another process that is writing


class Measured:
    """Times by name, in a file of this machine's and these libraries'.

    Several processes may measure at once: what is in the file stays, what is not is added. So a
    search resumes with the figures that it began with. A damaged file is put aside.

    Args:
        folder: None: ~/.cache/espnet_shrink, or its place in $XDG_CACHE_HOME.
    """

    def __init__(self, folder: Path | None = None) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.path = (folder or home / "espnet_shrink") / f"latency-{machine()}.yaml"
        self._known = self._read()

    def get(self, name: str, measure: Callable[[], Times]) -> Times:
        """What was measured under `name`, now or before.

        Raises:
            ShrinkError: it cannot be kept.
        """
        if name not in self._known:
            found = measure()
            try:
                self._add(name, found)
            except (OSError, NotImplementedError) as error:  # the latter: no locks on that disk
                reason = getattr(error, "strerror", None) or "files cannot be locked there"
                raise ShrinkError(
                    f"cannot keep measured times in {self.path.parent} ({reason}): "
                    "set XDG_CACHE_HOME to a folder of yours"
                ) from error
        return self._known[name]

    def _add(self, name: str, found: Times) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock", timeout=WAIT_S):
            self._known = {name: found, **self._read()}
            write_text(self.path, yaml.safe_dump(self._known, default_flow_style=None))

    def _read(self) -> dict[str, Times]:
        """What the file holds; one that is damaged is renamed, and begun anew."""
        if not self.path.exists():
            return {}
        try:
            found = msgspec.convert(read_yaml(self.path), dict[str, Times])
            if all(map(_is_whole, found.values())):
                return found
        except (ShrinkError, msgspec.ValidationError):
            pass
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        print(f"{self.path} was damaged: what it held is measured again, it is now {aside.name}",
              file=sys.stderr)  # fmt: skip
        return {}


def _is_whole(times: Times) -> bool:
    """Whether they are times, and if of ranks, of the dense matrix too."""
    seconds = times.values() if isinstance(times, dict) else [times]
    return all(0.0 < s < math.inf for s in seconds) and (
        not isinstance(times, dict)
        or ({DENSE} == {rank for rank in times if isinstance(rank, str)} and len(times) > 1)
    )


@functools.cache
def machine() -> str:
    """A name that changes with what times depend on: processor, threads, torch, our own code."""
    ours = hashlib.sha256(importlib.metadata.version("numba").encode())
    package = Path(__file__).parents[2]
    for source in sorted(path for pattern in TIMED_BY for path in package.glob(pattern)):
        ours.update(source.read_bytes())
    return (
        f"{llvmlite.binding.get_host_cpu_name()}-1thread-torch{torch.__version__}-"
        f"{ours.hexdigest()[:12]}"
    )
