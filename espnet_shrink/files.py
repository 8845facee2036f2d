"""Files that are either whole or absent, and folders that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.errors import ShrinkError, working_on


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends well.

    Raises:
        ShrinkError: the disk is full, or the system refuses; `path` is left as it was.
    """
    target = Path(path)
    with working_on(f"cannot write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: torch, numpy and matplotlib choose the format by it.
    beside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield beside
        os.replace(beside, target)
    except Exception as error:
        if _disk_is_full(error):
            raise ShrinkError(
                f"no space left on the disk while writing {target}: free some and run again"
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            said = error.strerror or type(error).__name__
            raise ShrinkError(f"cannot write {target}: {said}") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # its name may be too long, too
            beside.unlink()


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether that is behind `error`: torch raises one of its own while it handles the disk's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    with write_atomically(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ShrinkError: no such file, not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ShrinkError(f"no such file: {path}") from error
    except OSError as error:
        raise ShrinkError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or no such date
        detail = " ".join(str(error).split())
        raise ShrinkError(f"{path} is not valid YAML: {detail}") from error
    if not isinstance(document, dict):
        raise ShrinkError(f"{path} is empty or no mapping of keys to values")
    return document


@contextlib.contextmanager
def lock_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder` for this process; the kernel lets go of it if the process is killed.

    Raises:
        ShrinkError: another process is at work in `folder`.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ShrinkError(
                f"{path} is in use by another run: wait for it to end, or choose another folder"
            ) from error
        yield


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Note in `folder`/settings.yaml what it is for; refuse it if it was made for something else.

    Raises:
        ShrinkError: the folder holds a run with other settings.
    """
    path = folder / "settings.yaml"
    if not path.exists():
        write_text(path, yaml.safe_dump(dict(record), sort_keys=False))
        return
    before = read_yaml(path)
    changed = sorted(k for k in record.keys() | before.keys() if record.get(k) != before.get(k))
    if changed:
        key = changed[0]
        raise ShrinkError(
            f"{folder} holds a run with other settings ({key} was {before.get(key)!r}, now "
            f"{record.get(key)!r}): choose another folder, or delete this one"
        )
