#!/usr/bin/env python3
"""Print the real-time factor and the latency of a decoding from the logs of ESPnet's asr_inference.

The logs name each utterance's number of samples when its decoding starts ("speech length: N"), and
its best hypothesis when it ends ("best hypo: ..."), or that it is too short to be decoded. Loading
data and models is not counted, nor are utterances that are too short.
"""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from data_dir import fail


def log_time(line: str) -> datetime:
    return datetime.strptime(line.split(" (")[0], "%Y-%m-%d %H:%M:%S,%f")


def read_log(log: Path) -> tuple[int, int, float]:
    """Return the utterances, samples and seconds of decoding in one log."""
    samples: list[int] = []
    starts: list[datetime] = []
    ends: list[datetime] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if "INFO: speech length: " in line:
            samples.append(int(line.rsplit(": ", 1)[1]))
            starts.append(log_time(line))
        elif "INFO: best hypo" in line:
            ends.append(log_time(line))
        elif "WARNING: Utterance [" in line and len(starts) > len(ends):
            samples.pop()
            starts.pop()
    if len(starts) != len(ends):
        fail(f"{log}: {len(starts)} utterances start but {len(ends)} end")
    seconds = sum((end - start).total_seconds() for start, end in zip(starts, ends, strict=True))
    return len(starts), sum(samples), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fs", type=int, required=True, help="sampling rate in Hz")
    parser.add_argument("folder", type=Path, help="folder with asr_inference.*.log")
    args = parser.parse_args()
    totals = [read_log(log) for log in sorted(args.folder.glob("asr_inference.*.log"))]
    utterances = sum(total[0] for total in totals)
    audio_s = sum(total[1] for total in totals) / args.fs
    decoding_s = sum(total[2] for total in totals)
    if not utterances:
        fail(f"no decoded utterance in {args.folder}/asr_inference.*.log")
    print(f"Total audio duration: {audio_s:.3f} [sec]")
    print(f"Total decoding time: {decoding_s:.3f} [sec]")
    print(f"RTF: {decoding_s / audio_s:.3f}")
    print(f"Latency: {decoding_s * 1000 / utterances:.3f} [ms/sentence]")


if __name__ == "__main__":
    main()
