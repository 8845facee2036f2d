#!/usr/bin/env python3
"""Make strings of 3-7 spoken digits from single recordings named {digit}_{speaker}_{index}.wav.

Made for the Free Spoken Digit Dataset (8 kHz). The lowest five indices of each speaker and digit
are test, the next five dev, the rest train, so no recording is in two sets; a string comes from one
speaker's recordings of one set.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from corpus_io import (
    SAMPLE_RATE_HZ,
    Utterance,
    already_made,
    making,
    run,
    write_flac,
    write_kaldi_folder,
)
from numpy.typing import NDArray
from tqdm import tqdm

from espnet_shrink.data.kaldi import read_table
from espnet_shrink.errors import ShrinkError

RECORDING_RATE_HZ = 8000
WORDS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
HELD_OUT = 5  # recordings of each speaker and digit in test, and again in dev
MIN_DIGITS, MAX_DIGITS = 3, 7
MIN_PAUSE_S, MAX_PAUSE_S = 0.05, 0.2
PAUSE_RMS = 5e-4  # of full scale: about the floor of a quiet recording
_NAME = re.compile(r"(\d)_([A-Za-z0-9]+)_(\d+)\.wav")

Recordings = dict[str, dict[int, list[Path]]]  # speaker -> digit -> files


@dataclass(frozen=True)
class Part:
    """One set to make: its name, and which recordings it may use (a slice)."""

    name: str
    first: int
    last: int | None


PARTS = (
    Part("train_digits", 2 * HELD_OUT, None),
    Part("dev_digits", HELD_OUT, 2 * HELD_OUT),
    Part("test_digits", 0, HELD_OUT),
)
STRINGS = (1600, 300, 600)  # of each part


def find_recordings(folder: Path) -> Recordings:
    """Return the files of each speaker and digit, lowest index first.

    Raises:
        ShrinkError: no such folder; a name of another form; fewer than 11 of a speaker and digit.
    """
    if not folder.is_dir():
        raise ShrinkError(f"{folder}: no such folder: name the recordings with --digits_dir")
    indexed: dict[str, dict[int, list[tuple[int, Path]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ShrinkError(
                f"{path}: not named {{digit}}_{{speaker}}_{{index}}.wav: rename or move it"
            )
        digit, speaker, index = match.groups()
        indexed[speaker][int(digit)].append((int(index), path))
    if not indexed:
        raise ShrinkError(f"{folder}: no .wav file there: name the recordings with --digits_dir")
    least = 2 * HELD_OUT + 1
    for speaker, digits in indexed.items():
        for digit in range(10):
            if len(digits[digit]) < least:
                raise ShrinkError(
                    f"{folder}: {len(digits[digit])} recordings of digit {digit} by {speaker}: "
                    f"at least {least} are needed"
                )
    return {
        speaker: {digit: [path for _, path in sorted(found)] for digit, found in digits.items()}
        for speaker, digits in indexed.items()
    }


def read_recording(path: Path) -> NDArray[np.float32]:
    """Return one recording, shape (samples,), resampled to 16 kHz.

    Raises:
        ShrinkError: it is not 8 kHz mono, or not audio.
    """
    try:
        audio, rate_hz = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ShrinkError(f"{path}: not readable as audio: fetch it again") from error
    if rate_hz != RECORDING_RATE_HZ or audio.ndim != 1:
        channels = 1 if audio.ndim == 1 else audio.shape[1]
        raise ShrinkError(
            f"{path}: {rate_hz} Hz, {channels} channel(s): "
            f"convert it to {RECORDING_RATE_HZ} Hz mono"
        )
    if audio.size == 0:
        raise ShrinkError(f"{path}: holds no samples: fetch it again")
    return soxr.resample(audio, RECORDING_RATE_HZ, SAMPLE_RATE_HZ)


def make_string(
    recordings: list[NDArray[np.float32]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Join `recordings` with short pauses of faint noise before, between and after them."""
    pieces: list[NDArray[np.floating]] = []
    for audio in [*recordings, None]:
        pause = int(rng.uniform(MIN_PAUSE_S, MAX_PAUSE_S) * SAMPLE_RATE_HZ)
        pieces.append(PAUSE_RMS * rng.standard_normal(pause))
        if audio is not None:
            pieces.append(audio)
    return np.clip(np.concatenate(pieces), -1, 1)  # resampling may overshoot full scale


def make_part(
    part: Part,
    strings: int,
    recordings: Recordings,
    audio: dict[Path, NDArray[np.float32]],
    out: Path,
    seed: int,
) -> None:
    """Write one part's strings to OUT/PART/UTT-ID.flac with OUT/PART.text beside them."""
    (out / part.name).mkdir()
    speakers = sorted(recordings)
    lines = []
    for number in tqdm(range(strings), desc=part.name, unit="string"):
        rng = np.random.default_rng([seed, PARTS.index(part), number])
        speaker = speakers[number % len(speakers)]
        digits = [int(d) for d in rng.integers(10, size=rng.integers(MIN_DIGITS, MAX_DIGITS + 1))]
        usable = [recordings[speaker][digit][part.first : part.last] for digit in digits]
        chosen = [audio[paths[rng.integers(len(paths))]] for paths in usable]
        utt_id = f"{speaker}-{part.name.split('_')[0]}-{number:04d}"
        write_flac(out / part.name / f"{utt_id}.flac", make_string(chosen, rng))
        lines.append(f"{utt_id} {' '.join(WORDS[digit] for digit in digits)}\n")
    (out / f"{part.name}.text").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--audio", type=Path, required=True, help="such as downloads/digits")
    parser.add_argument("--out", type=Path, required=True, help="such as data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--strings", type=int, nargs=len(PARTS), default=STRINGS, help="of train, dev and test"
    )
    args = parser.parse_args()
    recordings = find_recordings(args.recordings)
    settings = {
        "seed": args.seed,
        "recordings": str(args.recordings.resolve()),
        "strings": list(args.strings),
    }
    if already_made(args.audio, settings):
        print(f"{args.audio} is there already: nothing to do")
    else:
        files = [p for digits in recordings.values() for found in digits.values() for p in found]
        audio = {path: read_recording(path) for path in tqdm(files, desc="reading", unit="file")}
        with making(args.audio, settings) as beside:
            for part, strings in zip(PARTS, args.strings, strict=True):
                make_part(part, strings, recordings, audio, beside, args.seed)
    for part in PARTS:
        texts = read_table(args.audio / f"{part.name}.text", values=True)
        folder = args.audio / part.name
        write_kaldi_folder(
            args.out / part.name,
            [
                Utterance(u, u.split("-")[0], folder / f"{u}.flac", text)
                for u, text in texts.items()
            ],
        )
        print(f"{args.out / part.name}: {len(texts)} utterances")


if __name__ == "__main__":
    run(main)
