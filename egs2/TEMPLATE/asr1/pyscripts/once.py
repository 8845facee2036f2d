#!/usr/bin/env python3
"""Markers of finished steps.

`once.py check MARKER --command TEXT --inputs FILE... --outputs FILE...` ends with status 0 if the
marker says that TEXT has been done with these inputs, and its outputs are there unchanged. If not,
it removes the marker, leaves the new fingerprint in MARKER.pending, and ends with status 1; a
missing input is an error (status 2). `once.py mark MARKER --outputs FILE...` turns the pending
fingerprint into the marker once the work is done.

Inputs and outputs are compared by content (folders with all below them), and of every audio file
that a `wav.scp` among the outputs lists, by size. An input `audio:SCP` stands for the size and the
time of every file that SCP lists.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

from data_dir import audio_file, fail, read_table, write_atomically


def hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "blake2b").hexdigest()[:32]


def listed_audio(scp: Path, with_time: bool) -> list[str]:
    """Return a line for each audio file in `scp`: its path, size and, if asked for, its time."""
    lines = []
    for path in read_table(scp).values():
        try:
            stat = os.stat(audio_file(path))
            lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns if with_time else ''}")
        except OSError:
            lines.append(f"{path} -")
    return lines


def fingerprint(path: Path, with_audio: bool = False) -> str:
    """Return "PATH HASH" for a file or a folder, "PATH -" for one that is not there."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        digest = hashlib.blake2b(digest_size=16)
        for file in files:
            digest.update(f"{file} {hash_file(file)}\n".encode())
        return f"{path} {digest.hexdigest()}"
    if not path.is_file():
        return f"{path} -"
    line = f"{path} {hash_file(path)}"
    if with_audio and path.name == "wav.scp":
        line += f" audio {hash_lines(listed_audio(path, with_time=False))}"
    return line


def hash_lines(lines: list[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def describe(command: str, inputs: list[str]) -> str:
    """Return the first part of a marker: the command and the fingerprint of each input."""
    lines = ["command " + " ".join(command.split())]
    for name in inputs:
        path = Path(name.removeprefix("audio:"))
        if not path.exists():
            fail(f"{path} is missing: run the stage that makes it first (asr.sh --help lists them)")
        if name.startswith("audio:"):
            lines.append(f"audio {path} {hash_lines(listed_audio(path, with_time=True))}")
        else:
            lines.append("input " + fingerprint(path))
    return "\n".join(lines) + "\n"


def is_done(marker: Path, description: str, outputs: list[Path]) -> bool:
    """Is the marker that of `description`, with all outputs present and the recorded unchanged?"""
    if not marker.exists():
        return False
    text = marker.read_text(encoding="utf-8")
    recorded = [line for line in text.splitlines() if line.startswith("output ")]
    if text != description + "".join(line + "\n" for line in recorded):
        return False
    paths = [Path(line.split(" ")[1]) for line in recorded]
    if not set(outputs) <= set(paths):
        return False
    return recorded == [f"output {fingerprint(path, with_audio=True)}" for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["check", "mark"])
    parser.add_argument("marker", type=Path)
    parser.add_argument("--command", default="")
    parser.add_argument("--inputs", nargs="*", default=[])
    parser.add_argument("--outputs", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    pending = args.marker.with_name(args.marker.name + ".pending")

    if args.verb == "check":
        description = describe(args.command, args.inputs)
        if is_done(args.marker, description, args.outputs):
            sys.exit(0)
        args.marker.unlink(missing_ok=True)
        with write_atomically(pending) as beside:
            beside.write_text(description, encoding="utf-8")
        sys.exit(1)

    for path in args.outputs:
        if not path.exists():
            fail(f"{path} was not made by the step that makes it")
    outputs = [f"output {fingerprint(path, with_audio=True)}\n" for path in args.outputs]
    with write_atomically(args.marker) as beside:
        beside.write_text(pending.read_text(encoding="utf-8") + "".join(outputs), encoding="utf-8")
    pending.unlink()


if __name__ == "__main__":
    main()
