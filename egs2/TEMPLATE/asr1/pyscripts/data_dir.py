#!/usr/bin/env python3
"""Kaldi-style data folders: read, check and write them.

A table is a text file of lines "KEY VALUE"; a data folder holds the tables `wav.scp` (KEY is the
utterance, or the recording where there is a `segments`), `text`, `utt2spk` and `spk2utt`.

As a program: `data_dir.py check FOLDER...` ends with status 2 and one line at the first fault;
`data_dir.py rate 16k` prints 16000.
"""

from __future__ import annotations

import contextlib
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
    """Return the table in `path`; the last white space between key and value is dropped."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        fail(f"no such file: {path}")
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8: byte {error.start}")
    table: Table = {}
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip().partition(" ")
        if "\t" in key:
            key, _, value = line.strip().partition("\t")
        if not key:
            if line or number < len(lines):
                fail(f"{path}, line {number}: empty line")
        elif not value and not allow_no_value:
            fail(f"{path}, line {number}: nothing after {key}")
        elif key in table:
            fail(f"{path}, line {number}: {key} is there twice")
        else:
            table[key] = value.strip()
    if not table:
        fail(f"{path} is empty")
    return table


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
        if not path.endswith("|") and not os.path.isfile(path):
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
    else:
        for argument in sys.argv[2:]:
            check(Path(argument))
