"""What data a folder was made of, told by its content: by any path it is the same data.

A digest has two halves, "words:audio". The words are utterance names and texts, in the order of
the file. The audio is, of every file, its size and 4 KiB from its middle: one short read, so that
a thousand hours take seconds, and another recording, cut or encoding of the same length shows.
Paths and times are left out, for data that was moved or copied is the same data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_shrink.core.files import recorded
from espnet_shrink.data.archive import split_entry
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.errors import ShrinkError

SAMPLE = 4096  # bytes
PATHS = ("output_dir", "config", "log_level", "ngpu", "num_workers", "dist_", "wandb_")
"""Keys of a training config, or their beginnings, that change no result of a retraining."""


def data_digest(folder: str | Path, before: str = "") -> str:
    """The digest of a Kaldi-style folder: of the utterances, texts and audio that it names.

    Args:
        before: a digest of before. Audio that is no longer there cannot be compared: its half
            is then taken from this one.

    Raises:
        ShrinkError: no such folder, or no wav.scp or text in it.
    """
    data = Path(folder)
    if not data.is_dir():
        raise ShrinkError(f"no such data folder: {data}")
    audio, texts = read_table(data / "wav.scp"), read_table(data / "text")
    words = [f"{name} {texts.get(name, '')}" for name in audio]
    words += [f"{name} {text}" for name, text in texts.items() if name not in audio]
    return _digest(words, audio.values(), before)


def content_of(folder: str | Path, out: Path, key: str) -> str:
    """The digest of a data folder, for the record of `out`, which may have it as `key`."""
    return data_digest(folder, str(recorded(out).get(key, "")))


def tables_digest(tables: Sequence[Sequence[str]], before: str = "") -> str:
    """The digest of data that a training config names: [path, name, type] of every table.

    Tables that are no longer there are treated as audio that is not.
    """
    if not all(Path(path).is_file() for path, *_ in tables):
        return before or _digest([], ["missing"], "")
    words: list[str] = []
    files: list[str] = []
    for path, name, kind in tables:
        try:
            table = read_table(Path(path))
        except ShrinkError:  # no table of keys, such as HDF5
            files.append(path)
            continue
        is_text = kind.startswith("text")
        words += [name, *(f"{key} {value}" if is_text else key for key, value in table.items())]
        files += [] if is_text else table.values()
    return _digest(words, files, before)


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of a training config, by which a moved experiment folder is the same."""
    kept = {
        key: _without_folders(value) for key, value in config.items() if not key.startswith(PATHS)
    }
    return hashlib.sha256(yaml.safe_dump(kept).encode()).hexdigest()[:32]


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    return value.rpartition("/")[2] if isinstance(value, str) else value


def _digest(words: Iterable[str], audio: Iterable[str], before: str) -> str:
    heard = hashlib.sha256()
    whole = True
    for path in audio:
        sample = _sample(path)
        whole = whole and sample is not None
        heard.update(sample or b"")
    said = hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
    of_audio = heard.hexdigest()[:32] if whole else before.partition(":")[2] or "missing"
    return f"{said}:{of_audio}"


def _sample(entry: str) -> bytes | None:
    """What tells one recording from another; None if it is not there. A pipe is its command."""
    if entry.endswith("|"):
        return entry.encode()
    path, offset = split_entry(entry) or (entry, None)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(size // 2 if offset is None else offset)
            return f"{size if offset is None else 0} ".encode() + file.read(SAMPLE)
    except OSError:
        return None
