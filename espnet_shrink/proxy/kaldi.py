"""Read and write the parts of a Kaldi-style data folder that are needed here, with checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import write_text


@dataclass(frozen=True)
class Utterance:
    """One line of wav.scp, text and utt2spk."""

    name: str
    audio: str
    text: str
    speaker: str


def read_table(path: Path) -> dict[str, str]:
    """A file of `key value...` lines; the value may be empty.

    Raises:
        ShrinkError: no such file, not UTF-8, empty, or a key twice.
    """
    if not path.is_file():
        raise ShrinkError(f"no such file: {path} (a Kaldi-style folder has wav.scp and text)")
    table: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ShrinkError(f"{path} is not UTF-8 text: convert it") from error
    for line in lines:
        if not line.strip():
            continue
        key, value = (*line.split(maxsplit=1), "")[:2]
        if key in table:
            raise ShrinkError(f"{path} has {key} twice: remove one")
        table[key] = value.strip()
    if not table:
        raise ShrinkError(f"{path} is empty")
    return table


def read_folder(folder: str | Path) -> list[Utterance]:
    """The utterances of a data folder, in the order of wav.scp.

    Raises:
        ShrinkError: folder or files missing, an utterance in one file only, empty text,
            missing audio or a pipe in wav.scp.
    """
    data = Path(folder)
    if not data.is_dir():
        raise ShrinkError(f"no such data folder: {data}")
    if (data / "segments").exists():
        raise ShrinkError(f"{data} has segments: format it first (stage 3 of asr.sh)")
    audio, text = read_table(data / "wav.scp"), read_table(data / "text")
    own = {name: name for name in audio}  # without utt2spk everyone speaks once
    speakers = read_table(data / "utt2spk") if (data / "utt2spk").exists() else own
    for name, table in (("text", text), ("utt2spk", speakers)):
        for here, there, lacking in (("wav.scp", name, audio.keys() - table.keys()),
                                     (name, "wav.scp", table.keys() - audio.keys())):  # fmt: skip
            if lacking:
                raise ShrinkError(
                    f"{data}: {min(lacking)} is in {here} but not in {there} "
                    f"({len(lacking)} such): make the files agree"
                )
    utterances = []
    for name, path in audio.items():
        if path.endswith("|"):
            raise ShrinkError(f"{data}/wav.scp: {name} is a pipe: format it first (stage 3)")
        if not Path(path).is_file():
            raise ShrinkError(f"{data}/wav.scp: audio of {name} is missing: {path}")
        if not text[name]:
            raise ShrinkError(f"{data}/text: {name} has no text: add it or drop the utterance")
        utterances.append(Utterance(name, path, text[name], speakers[name]))
    return utterances


def write_folder(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, text, utt2spk and spk2utt."""
    ordered = sorted(utterances, key=lambda utterance: utterance.name)
    by_speaker: dict[str, list[str]] = {}
    for u in ordered:
        by_speaker.setdefault(u.speaker, []).append(u.name)
    lines = {
        "wav.scp": [f"{u.name} {u.audio}" for u in ordered],
        "text": [f"{u.name} {u.text}" for u in ordered],
        "utt2spk": [f"{u.name} {u.speaker}" for u in ordered],
        "spk2utt": [f"{s} {' '.join(names)}" for s, names in sorted(by_speaker.items())],
    }
    for name, content in lines.items():
        write_text(folder / name, "\n".join(content) + "\n")


def read_audio(utterance: Utterance, rate_hz: int) -> np.ndarray:
    """The samples of an utterance, (T,) float32.

    Raises:
        ShrinkError: not readable as audio, empty, several channels, or another sampling rate.
    """
    try:
        samples, rate = soundfile.read(utterance.audio, dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        raise ShrinkError(f"cannot read {utterance.audio} of {utterance.name} as audio") from error
    if rate != rate_hz:
        raise ShrinkError(
            f"{utterance.audio} of {utterance.name} is sampled at {rate} Hz, the model wants "
            f"{rate_hz} Hz: resample it (stage 3 of asr.sh does)"
        )
    if samples.ndim != 1:
        raise ShrinkError(f"{utterance.audio} of {utterance.name} has several channels: give one")
    if not len(samples):
        raise ShrinkError(f"{utterance.audio} of {utterance.name} holds no samples: drop it")
    return samples
