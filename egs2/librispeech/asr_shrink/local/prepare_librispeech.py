#!/usr/bin/env python3
"""Make a Kaldi folder from parts of LibriSpeech, or of any corpus in its layout.

SUBSET/SPEAKER/CHAPTER/{SPEAKER-CHAPTER-NNNN.flac, SPEAKER-CHAPTER.trans.txt}
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import soundfile
from corpus_io import SAMPLE_RATE_HZ, Utterance, run, write_kaldi_folder
from tqdm import tqdm

from espnet_shrink.data.kaldi import evenly_spaced, read_table
from espnet_shrink.errors import ShrinkError


def find_subset(corpus_dir: Path, subset: str) -> Path:
    """Find `subset` in `corpus_dir` or in its LibriSpeech folder."""
    for folder in (corpus_dir / subset, corpus_dir / "LibriSpeech" / subset):
        if folder.is_dir():
            return folder
    raise ShrinkError(
        f"{corpus_dir}: no folder {subset} there: "
        "set LIBRISPEECH= in db.sh to the folder that holds it, or give --download true"
    )


def check_audio(path: Path) -> None:
    """Raise ShrinkError unless `path` is non-empty 16 kHz mono audio."""
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise ShrinkError(f"{path}: not readable as audio: fetch it again") from error
    if info.samplerate != SAMPLE_RATE_HZ or info.channels != 1:
        raise ShrinkError(
            f"{path}: {info.samplerate} Hz, {info.channels} channel(s): "
            f"convert it to {SAMPLE_RATE_HZ} Hz mono"
        )
    if info.frames == 0:
        raise ShrinkError(f"{path}: holds no samples: fetch it again")


def read_chapter(chapter: Path) -> Iterator[Utterance]:
    """Yield the utterances of one SPEAKER/CHAPTER folder."""
    speaker = chapter.parent.name
    transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
    audio = {path.stem: path for path in chapter.glob("*.flac")}
    if not transcript.is_file():
        raise ShrinkError(f"{chapter}: no {transcript.name} there: fetch the subset again")
    texts = read_table(transcript, values=True)
    for utt_id in sorted(texts.keys() - audio.keys()):
        raise ShrinkError(
            f"{chapter / utt_id}.flac: missing, though {transcript.name} has its text: "
            "fetch it or remove the line"
        )
    for utt_id in sorted(audio.keys() - texts.keys()):
        raise ShrinkError(f"{audio[utt_id]}: no text in {transcript.name}: write it or remove this")
    for utt_id, text in texts.items():
        check_audio(audio[utt_id])
        yield Utterance(utt_id, speaker, audio[utt_id], evenly_spaced(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus_dir", type=Path, required=True)
    parser.add_argument("--subset", nargs="+", required=True, help="such as train-clean-100")
    parser.add_argument("--out", type=Path, required=True, help="such as data/train_clean_100")
    args = parser.parse_args()
    if not args.corpus_dir.is_dir():
        raise ShrinkError(f"{args.corpus_dir}: no such folder: set LIBRISPEECH= in db.sh")
    folders = [find_subset(args.corpus_dir, subset) for subset in args.subset]
    chapters = sorted(path for folder in folders for path in folder.glob("*/*") if path.is_dir())
    utterances = [
        utterance
        for chapter in tqdm(chapters, desc=args.out.name, unit="chapter")
        for utterance in read_chapter(chapter)
    ]
    write_kaldi_folder(args.out, utterances)
    print(f"{args.out}: {len(utterances)} utterances")


if __name__ == "__main__":
    run(main)
