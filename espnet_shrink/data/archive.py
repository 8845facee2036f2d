"""Audio inside Kaldi's archives: the `FILE.ark:OFFSET` entries that ESPnet calls `kaldi_ark`.

Read here, and not by the packages that ESPnet reads them with (kaldiio, omniio): those differ
between its versions, run what looks like a pipe, and one of them unpickles.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import soundfile


def split_entry(entry: str) -> tuple[str, int] | None:
    """The archive and the offset in bytes that an entry names; None of a plain file."""
    path, colon, offset = entry.rpartition(":")
    if not (colon and offset.isascii() and offset.isdigit()) or Path(entry).is_file():
        return None
    return path, int(offset)


def audio_file(entry: str) -> str:
    """The file of an entry of wav.scp: of ARCHIVE:OFFSET the archive."""
    archive = split_entry(entry)
    return entry if archive is None else archive[0]


@contextlib.contextmanager
def open_audio(entry: str) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """An audio file or an entry of an archive, of which only the header is read so far.

    Yields:
        The open audio, and the type of number that ESPnet gives its samples in: "float32" in
        [-1, 1], or "int16", as Kaldi's own archives of WAV files are read.

    Raises:
        ValueError: what the archive holds there is no audio.
        Exception: whatever libsndfile raises.
    """
    where = split_entry(entry)
    if where is None:
        with soundfile.SoundFile(entry) as audio:
            yield audio, "float32"
        return
    path, offset = where
    with open(path, "rb") as archive:
        part, kind = _audio_at(archive, offset)
        with soundfile.SoundFile(part) as audio:
            if kind == "int16" and audio.subtype != "PCM_16":
                raise ValueError(f"a WAV of {audio.subtype} in an archive is not read by ESPnet")
            yield audio, kind


def _audio_at(archive: BinaryIO, offset: int) -> tuple[_Part, str]:
    """What an archive holds at an offset, as a file, and the type of its samples."""
    end = archive.seek(0, io.SEEK_END)
    archive.seek(offset)
    head = archive.read(8)
    # As ESPnet writes: the width of the length, the length, an audio file.
    if head[:5] == b"AUDIO" and len(head) > 5:
        start = offset + 6 + head[5]
        archive.seek(offset + 6)
        length = int.from_bytes(archive.read(head[5]), "little")
        if start + length > end:
            raise ValueError("the archive ends within it")
        return _Part(archive, start, length), "float32"
    if head[:4] == b"RIFF":  # as Kaldi writes; sox, writing to a pipe, leaves too great a length
        length = 8 + int.from_bytes(head[4:], "little")
        return _Part(archive, offset, min(length, end - offset)), "int16"
    if head[:2] == b"\0B":
        raise ValueError("the archive holds features there, no audio")
    raise ValueError("the archive holds no audio there")


class _Part(io.RawIOBase):
    """`length` bytes of an open file, from `start` on, as a file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._length)[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
