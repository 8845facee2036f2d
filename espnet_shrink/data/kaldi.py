"""Read and write the parts of a Kaldi-style data folder that are needed here, with checks."""

from __future__ import annotations

import codecs
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_shrink.core.files import write_text
from espnet_shrink.data.archive import audio_file, open_audio, split_entry
from espnet_shrink.errors import ShrinkError

LONGEST_FRAMES = 2**40  # a header that says more does not know


@dataclass(frozen=True)
class Utterance:
    """One line of wav.scp, text and utt2spk; `audio` is a file, or an ARCHIVE:OFFSET."""

    name: str
    audio: str
    text: str
    speaker: str


@dataclass(frozen=True)
class AudioHeader:
    """What the header of an audio file says."""

    frames: int
    rate_hz: int
    channels: int


def read_table(path: str | Path, values: bool = False) -> dict[str, str]:
    """A file of `key value...` lines, read as ESPnet's own `read_2columns_text` reads it.

    Spaces and tabs part the key from its value; any other white space is part of the value. What
    ESPnet stumbles over, or takes for something else, is refused.

    Args:
        values: refuse a key without a value.

    Raises:
        ShrinkError: the file cannot be read, is empty, is not UTF-8 or begins with a byte order
            mark; a blank line, a key twice, or another white space than these behind a key.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        parts = line.rstrip().split(maxsplit=1)
        if not parts:
            raise ShrinkError(f"{where} is blank: remove it")
        key, value = (*parts, "")[:2]
        if "\0" in line:
            raise ShrinkError(f"{where} holds a NUL character: save the file as UTF-8 text")
        behind = line.lstrip()[len(key) : len(key) + 1]
        if behind not in ("", " ", "\t", "\n"):
            raise ShrinkError(
                f"{where}: white space U+{ord(behind):04X} stands behind {key}: part a name from "
                "what follows by a space or a tab"
            )
        if values and not value:
            raise ShrinkError(f"{where}: nothing follows {key}: complete the line or remove it")
        if key in table:
            raise ShrinkError(f"{where}: {key} is there twice: remove one")
        table[key] = value
    if not table:
        raise ShrinkError(f"{path} is empty: it holds no utterances")
    return table


def _lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file, ended as Python's own text files end them."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ShrinkError(f"no such file: {path}") from error
    except OSError as error:
        raise ShrinkError(f"{path} cannot be read: {error.strerror}") from error
    if content.startswith(codecs.BOM_UTF8):
        raise ShrinkError(
            f"{path}, line 1 begins with a byte order mark, which ESPnet takes for a part of the "
            "first name: save the file as UTF-8 without it"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ShrinkError(f"{path} is not UTF-8 text at line {number}: convert it") from error
    yield from io.StringIO(text, newline=None)


def evenly_spaced(text: str) -> str:
    """`text` with one space between two words and none around it, as errors are counted.

    Only spaces and tabs part words: a no-break or an ideographic space is a part of one.
    """
    return " ".join(word for word in text.replace("\t", " ").split(" ") if word)


def read_folder(folder: str | Path) -> list[Utterance]:
    """The utterances of a data folder, in the order of wav.scp.

    Raises:
        ShrinkError: as `read_recordings`, and no text, an utterance in one file only, or empty
            text.
    """
    data = Path(folder)
    _check_folder(data, ("wav.scp", "text"))
    audio, text = read_table(data / "wav.scp", values=True), read_table(data / "text")
    _check_agree(data, audio, "text", text)
    utterances = []
    for heard in _heard(data, audio):
        if not text[heard.name]:
            raise ShrinkError(
                f"{data}/text: {heard.name} has no text: add it or drop the utterance"
            )
        utterances.append(dataclasses.replace(heard, text=text[heard.name]))
    return utterances


def read_recordings(folder: str | Path) -> list[Utterance]:
    """The utterances of a folder that needs no text, in the order of wav.scp; `text` is empty.

    Raises:
        ShrinkError: folder or wav.scp missing, an utterance in utt2spk or wav.scp only, missing
            audio or a pipe in wav.scp.
    """
    data = Path(folder)
    _check_folder(data, ("wav.scp",))
    return list(_heard(data, read_table(data / "wav.scp", values=True)))


def _check_folder(data: Path, files: Sequence[str]) -> None:
    if not data.is_dir():
        raise ShrinkError(f"no such data folder: {data}")
    if (data / "segments").exists():
        raise ShrinkError(
            f"{data} has segments: write each utterance to a file of its own first, as ESPnet's "
            "format_wav_scp.py does"
        )
    for name in files:
        if not (data / name).exists():
            raise ShrinkError(
                f"no such file: {data / name} (a Kaldi-style folder has {' and '.join(files)})"
            )


def _check_agree(data: Path, audio: Mapping[str, str], name: str, table: Mapping[str, str]) -> None:
    for here, there, lacking in (("wav.scp", name, audio.keys() - table.keys()),
                                 (name, "wav.scp", table.keys() - audio.keys())):  # fmt: skip
        if lacking:
            raise ShrinkError(
                f"{data}: {min(lacking)} is in {here} but not in {there} "
                f"({len(lacking)} such): make the files agree"
            )


def _heard(data: Path, audio: Mapping[str, str]) -> Iterator[Utterance]:
    """Utterances without their text."""
    utt2spk = data / "utt2spk"
    own = {name: name for name in audio}  # without utt2spk everyone speaks once
    speakers = read_table(utt2spk, values=True) if utt2spk.exists() else own
    _check_agree(data, audio, "utt2spk", speakers)
    for name, entry in audio.items():
        if entry.endswith("|") or entry.startswith("|"):
            raise ShrinkError(
                f"{data}/wav.scp: {name} is a pipe, and commands of a data folder are not run: "
                "write what it gives to a file, as ESPnet's format_wav_scp.py does"
            )
        if not Path(audio_file(entry)).is_file():
            raise ShrinkError(f"{data}/wav.scp: audio of {name} is missing: {entry}")
        yield Utterance(name, entry, "", speakers[name])


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


def espnet_data_type(utterances: Sequence[Utterance]) -> str:
    """What ESPnet calls the audio of these in `*_data_path_and_name_and_type`.

    Raises:
        ShrinkError: some are files and some are in archives, which ESPnet cannot read together.
    """
    in_archives = {split_entry(u.audio) is not None: u.name for u in reversed(utterances)}
    if len(in_archives) == 2:
        raise ShrinkError(
            f"audio of {in_archives[True]} is in an archive and audio of {in_archives[False]} is "
            "a file: ESPnet reads a wav.scp of one kind only"
        )
    return "kaldi_ark" if True in in_archives else "sound"


def audio_header(utterance: Utterance) -> AudioHeader:
    """Length, sampling rate and channels of an utterance, from the header of its audio alone.

    Raises:
        ShrinkError: not readable as audio, or a header that does not say the length.
    """
    try:
        with open_audio(utterance.audio) as (audio, _):
            return _header(utterance, audio)
    except ShrinkError:
        raise
    except Exception as error:  # libsndfile's, numpy's and the system's are many
        raise _unreadable(utterance, error) from error


def read_audio(utterance: Utterance, rate_hz: int) -> np.ndarray:
    """The samples of an utterance, (T,) float32, as ESPnet gives them to its models.

    Raises:
        ShrinkError: not readable as audio, empty, several channels, another sampling rate, or
            samples that are no numbers.
    """
    what = f"{utterance.audio} of {utterance.name}"
    try:
        with open_audio(utterance.audio) as (audio, kind):
            header = _header(utterance, audio)
            samples = audio.read(dtype=kind).astype(np.float32, copy=False)
    except ShrinkError:
        raise
    except Exception as error:
        raise _unreadable(utterance, error) from error
    if header.rate_hz != rate_hz:
        raise ShrinkError(
            f"{what} is sampled at {header.rate_hz} Hz, the model wants {rate_hz} Hz: resample it"
        )
    if header.channels != 1:
        raise ShrinkError(f"{what} has several channels: give one")
    if not len(samples):
        raise ShrinkError(f"{what} holds no samples: drop it")
    if not np.isfinite(samples).all():
        raise ShrinkError(f"{what} holds samples that are no numbers (NaN or infinite): mend it")
    return samples


def _header(utterance: Utterance, audio: soundfile.SoundFile) -> AudioHeader:
    if audio.frames > LONGEST_FRAMES:  # an encoder that wrote to a pipe could not go back
        raise ShrinkError(
            f"the header of {utterance.audio} of {utterance.name} does not say how long it is: "
            "convert it to a file again"
        )
    return AudioHeader(audio.frames, audio.samplerate, audio.channels)


def _unreadable(utterance: Utterance, error: Exception) -> ShrinkError:
    detail = " ".join(str(getattr(error, "error_string", None) or error).split())
    return ShrinkError(
        f"cannot read {utterance.audio} of {utterance.name} as audio: "
        f"{detail or type(error).__name__}"
    )
