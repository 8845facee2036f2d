#!/usr/bin/env python3
"""Turn a wav.scp into one audio file for each utterance, at one sampling rate and in one format.

Reads WAV, FLAC and whatever else soundfile reads, an entry of an archive ("FILE.ark:OFFSET"), a
Kaldi pipe ("command |"), a cut of a recording (--segments), and changes speed (--utt2speed). A
whole file that is already right stays where it is.
Writes to the output folder the audio, `wav.scp`, `utt2num_samples`, and `utt2md5` (which tells
later stages that audio has changed).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from data_dir import (
    Table,
    audio_file,
    fail,
    read_segments,
    read_table,
    write_atomically,
    write_table,
)


class Recordings:
    """The audio that a wav.scp lists; the last recording is kept, for its next segment."""

    def __init__(self, scp: Path) -> None:
        self.scp = scp
        self.sources = read_table(scp)
        self._last: tuple[str, np.ndarray, int] | None = None

    def is_pipe(self, key: str) -> bool:
        return self.sources[key].endswith("|")

    def is_file(self, key: str) -> bool:
        """Is it a file of its own, neither a pipe nor an entry of an archive?"""
        return not self.is_pipe(key) and audio_file(self.sources[key]) == self.sources[key]

    def info(self, key: str) -> tuple[str, int, int]:
        """Return the file's format ("WAV"), its sampling rate and its number of samples."""
        try:
            info = soundfile.info(self.sources[key])
        except soundfile.LibsndfileError:
            fail(f"{self.scp}: {key}: {self.sources[key]} is no audio file that soundfile can read")
        return info.format, info.samplerate, info.frames

    def read(self, key: str) -> tuple[np.ndarray, int]:
        """Return the samples, (n,) or (n, channels), in [-1, 1], and the sampling rate."""
        if self._last is None or self._last[0] != key:
            source: str | io.BytesIO = self.sources[key]
            if self.is_pipe(key):
                command = self.sources[key][:-1]
                run = subprocess.run(command, shell=True, capture_output=True)
                if run.returncode:
                    fail(f"{self.scp}: {key}: status {run.returncode} from: {command.strip()}")
                source = io.BytesIO(run.stdout)
            try:
                if self.is_pipe(key) or self.is_file(key):
                    samples, rate = soundfile.read(source, dtype="float32")
                else:
                    samples, rate = read_archive(self.sources[key])
            except Exception:  # libsndfile's, and whatever the reader of archives raises
                fail(f"{self.scp}: {key}: no audio that soundfile can read: {self.sources[key]}")
            self._last = key, samples, rate
        return self._last[1], self._last[2]


def read_archive(entry: str) -> tuple[np.ndarray, int]:
    """Return the samples in [-1, 1] and the sampling rate of an entry ARCHIVE:OFFSET."""
    try:
        from omniio.kaldi import load_mat  # what ESPnet reads archives with since 202611
    except ImportError:
        from kaldiio import load_mat
    rate, samples = load_mat(entry)
    if samples.dtype == np.int16:
        samples = samples / 32768
    elif samples.dtype.kind != "f":
        raise ValueError(f"samples of type {samples.dtype}")
    return samples.astype(np.float32), rate


def resample(samples: np.ndarray, rate: int, speed: float, new_rate: int) -> np.ndarray:
    """Return int16 samples at `new_rate` Hz, played `speed` times as fast (pitch changes too)."""
    if rate * speed != new_rate:
        samples = soxr.resample(samples, rate * speed, new_rate)
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fs", type=int, required=True, help="sampling rate in Hz")
    parser.add_argument("--audio-format", choices=["wav", "flac"], required=True)
    parser.add_argument("--segments", type=Path, help="utterances as cuts of the recordings")
    parser.add_argument("--utt2speed", type=Path, help="speed factor of each utterance")
    parser.add_argument("--keep", action="store_true", help="change nothing, only check the rate")
    parser.add_argument("--keys", type=Path, required=True, help="the utterances to do")
    parser.add_argument("scp", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()

    recordings = Recordings(args.scp)
    segments = read_segments(args.segments) if args.segments else {}
    speeds = read_table(args.utt2speed) if args.utt2speed else {}
    paths: Table = {}
    lengths: Table = {}
    sums: Table = {}
    for utterance in read_table(args.keys):
        recording, start, end = segments.get(utterance, (utterance, 0.0, -1.0))
        speed = float(speeds.get(utterance, 1.0))
        if not segments and speed == 1.0 and recordings.is_file(utterance):
            kind, rate, length = recordings.info(utterance)
            source = Path(recordings.sources[utterance])
            if args.keep and rate != args.fs:
                fail(f"{args.scp}: {utterance}: {source} is at {rate} Hz, not at {args.fs} Hz")
            if args.keep or (kind == args.audio_format.upper() and rate == args.fs):
                paths[utterance] = str(source)
                lengths[utterance] = str(length)
                sums[utterance] = hashlib.md5(source.read_bytes()).hexdigest()
                continue
        elif args.keep:
            fail(f"{args.scp}: {utterance} is no plain file: use --feats_type raw")
        samples, rate = recordings.read(recording)
        if segments:
            stop = len(samples) if end < 0 else round(end * rate)
            # Kaldi allows half a second past the end: the times of a corpus are often rounded.
            if stop > len(samples) + rate // 2 or round(start * rate) >= len(samples):
                seconds = len(samples) / rate
                fail(f"{args.segments}: {utterance} ends past {recording}'s {seconds:.2f} s")
            samples = samples[round(start * rate) : stop]
        samples = resample(samples, rate, speed, args.fs)
        path = args.output / f"{utterance}.{args.audio_format}"
        with write_atomically(path) as beside:
            soundfile.write(beside, samples, args.fs, subtype="PCM_16")
        paths[utterance] = str(path)
        lengths[utterance] = str(len(samples))
        sums[utterance] = hashlib.md5(samples.tobytes()).hexdigest()
    write_table(args.output / "wav.scp", paths)
    write_table(args.output / "utt2num_samples", lengths)
    write_table(args.output / "utt2md5", sums)


if __name__ == "__main__":
    main()
