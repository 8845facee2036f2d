"""Files that are either whole or absent, and folders that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, SoftFileLock, Timeout
from tqdm import tqdm

from espnet_shrink.errors import ShrinkError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
CANNOT_WRITE = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "it is on a read-only file system",
    errno.EEXIST: "it is a file, not a folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "no space left on the disk",
}


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends well.

    Raises:
        ShrinkError: the disk is full, or the system refuses; `path` is left as it was.
    """
    target = Path(path)
    # The suffix stays last: torch, numpy and matplotlib choose the format by it.
    beside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, target)
    except Exception as error:
        if _disk_is_full(error):
            raise ShrinkError(
                f"no space left on the disk while writing {target}: free some and run again"
            ) from error
        if isinstance(error, OSError) and error.errno is not None and _is_at(error, target):
            said = CANNOT_WRITE.get(error.errno) or error.strerror or type(error).__name__
            raise ShrinkError(f"cannot write {target}: {said}") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # its name may be too long, too
            beside.unlink(missing_ok=True)


def _is_at(error: OSError, target: Path) -> bool:
    """Whether the file system refused `target`, not something else that the block touched."""
    return error.filename is not None and Path(error.filename).parent in target.parents


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextlib.contextmanager
def lock_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder` for this process; the kernel lets go of it if the process is killed.

    Raises:
        ShrinkError: another process is at work in `folder`, or it cannot be written to or locked.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock", timeout=0)
        with warnings.catch_warnings(action="ignore"):  # what it warns of is refused below
            lock.acquire()
    except Timeout as error:
        raise ShrinkError(
            f"{path} is in use by another run: wait for it to end, or choose another folder"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise ShrinkError(_why_not_locked(path, error)) from error
    try:
        # What filelock takes instead where there are no locks outlives a killed process.
        if isinstance(lock, SoftFileLock):
            raise ShrinkError(_why_not_locked(path, NotImplementedError()))
        yield
    finally:
        lock.release()


def _why_not_locked(folder: Path, error: OSError | NotImplementedError) -> str:
    if isinstance(error, NotImplementedError) or error.errno in NO_LOCKS:
        return (
            f"the file system of {folder} has no file locks, so two runs could not be kept apart: "
            "choose a folder on another one (a local disk, or NFS with its lock service)"
        )
    why = CANNOT_WRITE.get(error.errno or 0, error.strerror or str(error))
    return f"{folder} cannot be written to: {why}: choose another folder"


MADE_WITH = "made_with"
"""The key of a record that is told when it differs, and not held against a run."""


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Note in `folder`/settings.yaml what it is for; refuse it if it was made for something else.

    Raises:
        ShrinkError: the folder holds a run with other settings.
    """
    if recorded(folder):
        check_folder(folder, record)
    else:
        write_text(folder / "settings.yaml", yaml.safe_dump(dict(record), sort_keys=False))


def recorded(folder: Path) -> dict[str, Any]:
    """What a folder was claimed for; nothing if it was not."""
    path = folder / "settings.yaml"
    return read_yaml(path) if path.exists() else {}


def check_folder(folder: Path, record: Mapping[str, Any], partly: bool = False) -> None:
    """Hold `record` against what `folder` was claimed for, if it was.

    Args:
        partly: `record` is a part of what the folder will be claimed for.

    Raises:
        ShrinkError: the folder holds a run with other settings, or of an earlier version.
    """
    before = recorded(folder)
    if not before:
        return
    remedy = "choose another folder, or delete this one"
    keys = [*record, *(() if partly else (key for key in before if key not in record))]
    lacking = [key for key in keys if key not in before and key != MADE_WITH]
    if lacking:
        raise ShrinkError(
            f"{folder} was made by an earlier version of espnet_shrink (its settings.yaml says "
            f"nothing of {lacking[0]}, so it cannot be told whether it fits): {remedy}"
        )
    for key in keys:
        if key == MADE_WITH:
            _tell(folder, before.get(key) or {}, record.get(key) or {})
        elif record.get(key) != before[key]:
            raise ShrinkError(
                f"{folder} holds a run {_change(key, before[key], record.get(key))}: {remedy}"
            )


def _tell(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            tqdm.write(f"{folder} was begun with {name} {before[name]}; this is {now[name]}")


def _change(key: str, before: Any, now: Any) -> str:
    """What differs, down to the first key that does."""
    if key.endswith("_content"):
        what = key.removesuffix("_content").replace("_", " ")
        return f"whose {what} had another content"
    while isinstance(before, dict) and isinstance(now, dict):
        inner = min((k for k in before.keys() | now.keys() if before.get(k) != now.get(k)), key=str)
        key, before, now = f"{key}.{inner}", before.get(inner), now.get(inner)
    return f"with other settings ({key} was {_short(before)}, now {_short(now)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
