#!/usr/bin/env python3
"""Kaldi-style data folders: read, check and write them.

A table is a text file of lines "KEY VALUE"; a data folder holds the tables `wav.scp` (KEY is the
utterance, or the recording where there is a `segments`), `text`, `utt2spk` and `spk2utt`.

As a program: `data_dir.py check FOLDER...` ends with status 2 and one line at the first fault;
`data_dir.py rate 16k` prints 16000; `data_dir.py copy FROM TO` writes the `text` and `utt2spk` of
one folder to another, sorted and with single spaces behind the keys, and `spk2utt`; `data_dir.py
values TABLE...` prints what stands behind the keys; `data_dir.py join TABLE...` prints the lines
with a value, where a table named text_spk2 adds _spk2 to its keys.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

Table = dict[str, str]


def fail(message: str) -> NoReturn:
    """End the program with one line and status 2: for what the user can mend."""
    print(f"{Path(sys.argv[0]).name}: Error: {message}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; it takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
    finally:
        beside.unlink(missing_ok=True)


def read_table(path: Path, allow_no_value: bool = False) -> Table:
    """Return the table in `path`, as ESPnet's own `read_2columns_text` reads it.

    Spaces and tabs part the key from its value; any other white space is part of the value. What
    ESPnet stumbles over, or takes for something else, is a fault. (`espnet_shrink.data.kaldi`
    reads by the same rules; these programs do without that package.)
    """
    return {key: value for key, value in rows(path, allow_no_value)}


def rows(path: Path, allow_no_value: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of the table in `path`, as `read_table` reads them."""
    seen: set[str] = set()
    for number, line in enumerate(lines_of(path), 1):
        where = f"{path}, line {number}"
        parts = line.rstrip().split(maxsplit=1)
        if not parts:
            fail(f"{where}: empty line")
        key, value = (*parts, "")[:2]
        behind = line.lstrip()[len(key) : len(key) + 1]
        if "\0" in line:
            fail(f"{where}: a NUL character: save the file as UTF-8 text")
        if behind not in ("", " ", "\t", "\n"):
            fail(f"{where}: white space U+{ord(behind):04X} behind {key}: write a space or a tab")
        if not value and not allow_no_value:
            fail(f"{where}: nothing after {key}")
        if key in seen:
            fail(f"{where}: {key} is there twice")
        seen.add(key)
        yield key, value
    if not seen:
        fail(f"{path} is empty")


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, ended as Python's own text files end them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        fail(f"no such file: {path}" if not path.exists() else f"{path}: {error.strerror}")
    if content.startswith(codecs.BOM_UTF8):
        fail(f"{path}, line 1: a byte order mark: save the file as UTF-8 without it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        fail(f"{path} is not UTF-8 at line {number}: byte {error.start}")
    yield from io.StringIO(text, newline=None)


def evenly_spaced(text: str) -> str:
    """Return `text` with one space between two words; only spaces and tabs part words."""
    return " ".join(word for word in text.replace("\t", " ").split(" ") if word)


def audio_file(entry: str) -> str:
    """Return the file of an entry of `wav.scp`: of ARCHIVE:OFFSET it is the archive."""
    path, colon, offset = entry.rpartition(":")
    return path if colon and offset.isdigit() and not os.path.isfile(entry) else entry


def write_table(path: Path, table: Table) -> None:
    """Write `table` sorted by key, whole or not at all."""
    with write_atomically(path) as beside:
        lines = sorted(f"{key} {value}".rstrip() + "\n" for key, value in table.items())
        beside.write_text("".join(lines), encoding="utf-8")


def write_speakers(folder: Path, utt2spk: Table) -> None:
    """Write `utt2spk` and its inverse `spk2utt`."""
    spk2utt: dict[str, list[str]] = {}
    for utterance, speaker in sorted(utt2spk.items()):
        spk2utt.setdefault(speaker, []).append(utterance)
    write_table(folder / "utt2spk", utt2spk)
    write_table(folder / "spk2utt", {key: " ".join(value) for key, value in spk2utt.items()})


def read_segments(path: Path) -> dict[str, tuple[str, float, float]]:
    """Return utterance -> (recording, start, end), times in seconds; end < 0 is the end of it."""
    segments = {}
    for utterance, value in read_table(path).items():
        try:
            recording, start, end = value.split()
            segments[utterance] = recording, float(start), float(end)
        except ValueError:
            fail(f"{path}: {utterance} needs RECORDING START END, not '{value}'")
        if segments[utterance][1] < 0 or 0 <= segments[utterance][2] <= segments[utterance][1]:
            fail(f"{path}: {utterance} ends at {end} s, before its start at {start} s")
    return segments


def require_same_keys(one: Path, one_keys: set[str], other: Path, other_keys: set[str]) -> None:
    """Fail with the name of an utterance that only one of two tables has."""
    for here, there, missing in (
        (one, other, one_keys - other_keys),
        (other, one, other_keys - one_keys),
    ):
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            fail(f"{there} lacks {min(missing)}{more}, which is in {here}")


def check(folder: Path) -> None:
    """Check that the tables agree, that some text is there, and that the audio files exist."""
    if not folder.is_dir():
        fail(f"no such data folder: {folder} (stage 1 makes it)")
    scp, text = folder / "wav.scp", folder / "text"
    audio = read_table(scp)
    utterances, source = set(audio), scp
    if (folder / "segments").exists():
        source = folder / "segments"
        segments = read_segments(source)
        utterances = set(segments)
        for utterance, (recording, _, _) in segments.items():
            if recording not in audio:
                fail(f"{scp} lacks {recording}, which {source} names for {utterance}")
    words = read_table(text, allow_no_value=True)
    require_same_keys(source, utterances, text, set(words))
    utt2spk = folder / "utt2spk"
    require_same_keys(source, utterances, utt2spk, set(read_table(utt2spk)))
    if not any(words.values()):
        fail(f"{text} has no words at all")
    for key, path in audio.items():
        if not path.endswith("|") and not os.path.isfile(audio_file(path)):
            fail(f"{scp}: {key}: no such audio file: {path}")


def parse_rate(text: str) -> int:
    """Return the sampling rate in Hz written as "16k" or "16000"."""
    try:
        rate = float(text[:-1]) * 1000 if text[-1:] in "kK" else float(text)
    except ValueError:
        fail(f"--fs takes a sampling rate such as 16k or 16000, not '{text}'")
    if rate < 1 or rate != int(rate):
        fail(f"--fs takes a sampling rate such as 16k or 16000, not '{text}'")
    return int(rate)


if __name__ == "__main__":
    if sys.argv[1] == "rate":
        print(parse_rate(sys.argv[2]))
    elif sys.argv[1] == "copy":
        source, target = map(Path, sys.argv[2:])
        write_table(target / "text", read_table(source / "text", allow_no_value=True))
        write_speakers(target, read_table(source / "utt2spk"))
    elif sys.argv[1] in ("values", "join"):
        for argument in sys.argv[2:]:
            suffix = Path(argument).name.replace("text", "", 1)
            for key, value in rows(Path(argument), allow_no_value=True):
                if sys.argv[1] == "values":
                    print(value)
                elif value:
                    print(f"{key}{suffix} {value}")
    else:
        for argument in sys.argv[2:]:
            check(Path(argument))
