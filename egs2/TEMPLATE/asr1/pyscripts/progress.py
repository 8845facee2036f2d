#!/usr/bin/env python3
"""Show what goes on in a log, one line at a time, until terminated.

`progress.py train LOG`: a line for each finished epoch of an ESPnet training.
`progress.py decode FOLDER TOTAL`: how many of TOTAL utterances the logs in FOLDER have decoded.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STARTED = r"(\d+)/(\d+)epoch started(?:\. Estimated time to finish: (.*))?"
SHOWN = ("loss", "acc", "loss_ctc", "cer_ctc", "wer", "cer", "time")


def epoch_lines(lines: Iterator[str]) -> Iterator[str]:
    """Yield a short line for each epoch in ESPnet's training log.

    The time left is in the log line that opens the next epoch, so an epoch waits for it.
    """
    summary, epochs = "", "?"
    for line in lines:
        if started := re.search(STARTED, line):
            epochs = started[2]
            if summary:
                yield summary + (f", {started[3].strip()} left" if started[3] else "")
                summary = ""
        elif result := re.search(r"(\d+)epoch results: (.*)", line):
            if summary:
                yield summary
            summary = f"epoch {result[1]}/{epochs}:" + shorten(result[2])
            if result[1] == epochs:
                yield summary
                summary = ""
        elif "resumed using" in line:
            yield line.split("INFO: ")[-1].strip()


def shorten(results: str) -> str:
    """Return the values in SHOWN of "[train] a=1, b=2, [valid] a=3, ..."."""
    text = ""
    for part, values in re.findall(r"\[(train|valid)\] (.*?)(?=, \[|$)", results):
        pairs = dict(re.findall(r"(\w+)=([^,]+)", values))
        # What ESPnet did not measure is nan.
        shown = [f"{name} {pairs[name]}" for name in SHOWN if pairs.get(name, "nan") != "nan"]
        text += f" {part} {', '.join(shown)};"
    return text.rstrip(";")


def follow(path: Path) -> Iterator[str]:
    """Yield the lines of a file that is being written, until SIGTERM; then the last ones."""
    ending = False

    def end(signum: int, frame: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    while not path.exists() and not ending:
        time.sleep(0.2)
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as handle:
        buffer = ""
        while True:
            stop_after = ending
            buffer += handle.read()
            *lines, buffer = buffer.split("\n")
            yield from lines
            if stop_after:
                return
            if not lines:
                time.sleep(0.5)


def count_decoded(folder: Path) -> int:
    logs = folder.glob("asr_inference.*.log")
    return sum(log.read_bytes().count(b"INFO: best hypo") for log in logs)


def show_decoding(folder: Path, total: int, every_s: float = 15.0) -> None:
    shown = 0
    while True:
        time.sleep(every_s)
        done = min(count_decoded(folder), total)
        if done != shown:
            print(f"decoded {done}/{total} utterances", flush=True)
        shown = done


if __name__ == "__main__":
    if sys.argv[1] == "train":
        for text in epoch_lines(follow(Path(sys.argv[2]))):
            print(text, flush=True)
    else:
        show_decoding(Path(sys.argv[2]), int(sys.argv[3]))
