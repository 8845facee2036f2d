#!/usr/bin/env python3
"""Make a data folder with copies of every utterance at other speeds (Kaldi's speed perturbation).

The copies have Kaldi's names ("sp0.9-" before utterance and speaker). The audio itself is not made
here: `utt2speed` holds each copy's factor, and format_wav_scp.py applies it (0.9 is slower).
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_dir import (
    Table,
    check,
    fail,
    read_segments,
    read_table,
    write_speakers,
    write_table,
)


def perturb(source: Path, target: Path, factors: list[str]) -> None:
    """Write to `target` one copy of `source` for each factor."""
    check(source)
    text = read_table(source / "text", allow_no_value=True)
    utt2spk = read_table(source / "utt2spk")
    audio = read_table(source / "wav.scp")
    segments = read_segments(source / "segments") if (source / "segments").exists() else None
    tables: dict[str, Table] = {
        name: {} for name in ("wav.scp", "text", "utt2spk", "segments", "utt2speed")
    }
    for factor in factors:
        prefix = "" if float(factor) == 1.0 else f"sp{factor}-"
        for utterance in text:
            key = prefix + utterance
            tables["text"][key] = text[utterance]
            tables["utt2spk"][key] = prefix + utt2spk[utterance]
            tables["utt2speed"][key] = factor
            if segments is not None:
                recording, start, end = segments[utterance]
                tables["segments"][key] = f"{recording} {start} {end}"
            else:
                tables["wav.scp"][key] = audio[utterance]
    if segments is not None:
        tables["wav.scp"] = audio
        write_table(target / "segments", tables["segments"])
    else:
        (target / "segments").unlink(missing_ok=True)
    for name in ("wav.scp", "text", "utt2speed"):
        write_table(target / name, tables[name])
    write_speakers(target, tables["utt2spk"])


def main() -> None:
    if len(sys.argv) < 4:
        fail("usage: perturb_speed.py SOURCE TARGET FACTOR...")
    for factor in sys.argv[3:]:
        try:
            good = 0.1 <= float(factor) <= 10
        except ValueError:
            good = False
        if not good:
            fail(f"--speed_perturb_factors takes numbers such as 0.9, not '{factor}'")
    perturb(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])


if __name__ == "__main__":
    main()
