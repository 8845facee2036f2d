#!/usr/bin/env python3
"""Copy a formatted data folder without utterances that are too long, too short, or without words.

Says how many were left out. As in ESPnet, an utterance of exactly the least or greatest length is
left out too.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from data_dir import fail, read_table, write_speakers, write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fs", type=int, required=True, help="sampling rate in Hz")
    parser.add_argument("--min", type=float, required=True, help="least length in seconds")
    parser.add_argument("--max", type=float, required=True, help="greatest length in seconds")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()

    text = read_table(args.source / "text", allow_no_value=True)
    lengths = read_table(args.source / "utt2num_samples")
    short, long, empty, kept = 0, 0, 0, set()
    for utterance, samples in lengths.items():
        if int(samples) <= int(args.min * args.fs):
            short += 1
        elif int(samples) >= int(args.max * args.fs):
            long += 1
        elif not text.get(utterance):
            empty += 1
        else:
            kept.add(utterance)
    print(
        f"{args.target}: left out {len(lengths) - len(kept)} of {len(lengths)} utterances:"
        f" {short} not longer than {args.min:g} s, {long} not shorter than {args.max:g} s,"
        f" {empty} without words"
    )
    if not kept:
        fail(f"nothing is left of {args.source}: see --min_wav_duration and --max_wav_duration")

    for name in ("wav.scp", "text", "utt2num_samples", "utt2md5"):
        table = read_table(args.source / name, allow_no_value=True)
        write_table(args.target / name, {key: table[key] for key in kept})
    utt2spk = read_table(args.source / "utt2spk")
    write_speakers(args.target, {key: utt2spk[key] for key in kept})
    for name in ("feats_type", "audio_format"):
        shutil.copyfile(args.source / name, args.target / name)


if __name__ == "__main__":
    main()
