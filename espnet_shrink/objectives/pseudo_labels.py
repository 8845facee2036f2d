"""A training folder from audio alone: the texts are what the uncompressed model hears.

With one hypothesis per utterance this is distillation of sequences (Kim and Rush 2016), and it is
what a teacher's token posteriors are taken along where there are no texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from espnet_shrink.core.files import claim_folder, lock_folder, recorded, write_text
from espnet_shrink.data.digest import tables_digest
from espnet_shrink.data.features import extract_recordings
from espnet_shrink.data.kaldi import (
    Utterance,
    evenly_spaced,
    read_recordings,
    read_table,
    write_folder,
)
from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.score import Scorer

AT_ONCE = 200  # utterances that are in memory, and lost if the run is cut off


def pseudo_labelled(dev: Heard, recordings: Path, out: Path) -> Path:
    """The folder `out`/train, made of the audio of `recordings`; resumes, or only finds it.

    Utterances in which the model hears nothing are left out, and counted.

    Args:
        dev: its model decodes, greedily, by the decoder that has the fewest errors there.
        recordings: Kaldi-style folder; its wav.scp, and utt2spk if there is one, are read.

    Raises:
        ShrinkError: bad audio or data, `out` was made of others, or nothing is heard at all.
    """
    made = out / "train"
    known = str(recorded(out).get("audio_content", ""))
    audio = [[str(recordings / "wav.scp"), "speech", "sound"]]
    record = {
        "base_hash": dev.loaded.hash, **dev.loaded.asked,
        "audio_content": tables_digest(audio, known),
    }  # fmt: skip
    utterances = read_recordings(recordings) if not (made / "text").exists() else []
    with lock_folder(out):
        claim_folder(out, record)
        if (made / "text").exists():  # whole: it is the last that is written
            return made
        heard = _hear(dev, utterances, out)
        told = [dataclasses.replace(u, text=heard[u.name]) for u in utterances if heard[u.name]]
        silent = len(utterances) - len(told)
        if silent:
            tqdm.write(
                f"{silent} of {len(utterances)} utterances of {recordings} are left out: the "
                "model hears nothing in them"
            )
        if not told:
            raise ShrinkError(f"the model hears nothing in all of {recordings}: give speech")
        beside = out / "train.part"
        write_folder(beside, told)
        beside.rename(made)
    return made


def _hear(dev: Heard, utterances: Sequence[Utterance], out: Path) -> dict[str, str]:
    """Name -> text, of every utterance; of parts that were decoded before they are read."""
    heard: dict[str, str] = {}
    parts = range(0, len(utterances), AT_ONCE)
    for first in tqdm(parts, desc="texts by the uncompressed model", unit="part"):
        path = out / "parts" / f"{first}.txt"
        if not path.exists():
            part = utterances[first : first + AT_ONCE]
            features = extract_recordings(dev.loaded, part)
            scorer = Scorer(dev.loaded, features, only=dev.best_decoder)
            (texts,) = scorer.hypotheses().values()
            lines = [f"{u.name} {_text(t)}" for u, t in zip(part, texts, strict=True)]
            write_text(path, "".join(f"{line.rstrip()}\n" for line in lines))
        heard |= read_table(path)
    return heard


def _text(hypothesis: str) -> str:
    """Nothing, if a token of the hypothesis stands for no text that could be trained on."""
    return "" if "<unk>" in hypothesis else evenly_spaced(hypothesis)
