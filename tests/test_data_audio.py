"""Audio in files and archives: read as ESPnet reads it, measured from headers, never executed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, tree
from espnet2.train.dataset import DATA_TYPES
from families import CONFORMER, plain_model

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.kaldi import (
    AudioHeader,
    Utterance,
    audio_header,
    espnet_data_type,
    read_audio,
    read_folder,
    read_table,
)
from espnet_shrink.errors import ShrinkError

try:
    from omniio import kaldi  # what ESPnet reads and writes archives with since 202611
except ImportError:
    import kaldiio as kaldi

DEV = Path("dump/raw/dev")
PROXY = ["proxy", "--exp", "exp/asr", "--data", DEV, "--size", 4]


def to_archive(scp: Path, name: str, **how) -> None:
    """Put the audio of a wav.scp into an archive, as ESPnet's format_wav_scp.py does."""
    audio = {}
    for key, path in read_table(scp).items():
        samples, rate = soundfile.read(path, dtype="int16")
        audio[key] = (rate, samples)
    kaldi.save_ark(name, audio, scp=str(scp), **how)


def as_flac(scp: Path, name: str) -> None:
    to_archive(scp, name, write_function="soundfile", write_kwargs={"format": "flac"})


def test_archives_give_what_the_files_gave(recipe, shrink):
    files = read_folder(DEV)
    assert shrink(*PROXY, "--out", "files").status == 0
    as_flac(DEV / "wav.scp", "dev.flac.ark")
    assert shrink(*PROXY, "--out", "archive").status == 0
    files_made, archive_made = (read_yaml(f"{out}/proxy.yaml") for out in ("files", "archive"))
    assert {**files_made, "content": ""} == {**archive_made, "content": ""}
    chosen = read_table("archive/wav.scp")
    assert chosen.keys() == read_table("files/wav.scp").keys()
    assert all(entry.startswith("dev.flac.ark:") for entry in chosen.values())
    archived = read_folder(DEV)
    assert [audio_header(u) for u in archived] == [audio_header(u) for u in files]
    assert (espnet_data_type(files), espnet_data_type(archived)) == ("sound", "kaldi_ark")
    with pytest.raises(ShrinkError, match="one kind only"):
        espnet_data_type([*files, *archived])


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "kaldi"])
def test_samples_are_those_that_espnet_gives_its_models(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    samples = np.round(8000 * np.sin(np.arange(2000) / 9)).astype(np.int16)
    audio = {"a": (RATE_HZ, samples), "b": (RATE_HZ, samples[:900])}
    how = {"write_function": "soundfile", "write_kwargs": {"format": kind}}
    kaldi.save_ark("x.ark", audio, scp="x.scp", **({} if kind == "kaldi" else how))
    espnets = DATA_TYPES["kaldi_ark"]["func"]("x.scp", float_dtype="float32")
    for name, entry in read_table("x.scp").items():
        utterance = Utterance(name, entry, "x", name)
        found = read_audio(utterance, RATE_HZ)
        assert np.array_equal(found, espnets[name]) and found.dtype == np.float32
        assert audio_header(utterance) == AudioHeader(len(audio[name][1]), RATE_HZ, 1)


def entry(new: str) -> None:
    """Let the second utterance of dev have this audio."""
    lines = (DEV / "wav.scp").read_text().splitlines()
    lines[1] = f"{lines[1].split(' ')[0]} {new}"
    (DEV / "wav.scp").write_text("\n".join(lines) + "\n")


def archive(content: bytes, offset: int) -> str:
    Path("bad.ark").write_bytes(content)
    return f"bad.ark:{offset}"


def sound(name: str, samples: np.ndarray, rate: int = RATE_HZ, **how) -> str:
    soundfile.write(name, samples, rate, **how)
    return name


def cut(name: str, size: int) -> str:
    sound(name, np.sin(np.arange(9000)))
    Path(name).write_bytes(Path(name).read_bytes()[:size])
    return name


def features() -> str:
    kaldi.save_ark("f.ark", {"a": np.zeros((9, 20), np.float32)}, scp="f.scp")
    return read_table("f.scp")["a"]


def wide_wav() -> str:
    Path("wide").mkdir()
    sound("wide/a.wav", np.zeros(900), subtype="PCM_24")
    return archive(Path("wide/a.wav").read_bytes(), 0)


NAN = np.array([0.0, np.nan] * 800)
BROKEN = {
    "NaN": (lambda: sound("nan.wav", NAN, subtype="FLOAT"), "no numbers"),
    "infinite": (lambda: sound("inf.wav", NAN * 0 + np.inf, subtype="FLOAT"), "no numbers"),
    "text": (lambda: archive(b"hello", 0).partition(":")[0], "as audio"),
    "a raw file": (lambda: str(Path("x.raw").write_bytes(b"\0" * 99) and "x.raw"), "as audio"),
    "half a header": (lambda: cut("cut.wav", 20), "as audio"),
    "half a FLAC header": (lambda: cut("cut.flac", 30), "as audio"),
    "no audio in the archive": (lambda: archive(b"a hello you there", 2), "holds no audio"),
    "past the archive": (lambda: archive(b"a AUDIO\1\2RI", 999), "holds no audio"),
    "a cut archive": (lambda: archive(b"a AUDIO\1\xffRIFF", 2), "ends within"),
    "a pickle": (lambda: archive(b"a PKL" + b"cos\nsystem\n(S'touch ran'\ntR.", 2), "no audio"),
    "features": (features, "features"),
    "24 bits, which ESPnet cannot read": (wide_wav, "PCM_24"),
    "another rate": (lambda: sound("slow.wav", np.zeros(900), 8000), "8000 Hz"),
    "two channels": (lambda: sound("two.wav", np.zeros((900, 2))), "several channels"),
    "nothing": (lambda: sound("none.wav", np.zeros(0)), "no samples"),
    "no file": (lambda: "gone.wav", "missing"),
    "no archive": (lambda: "gone.ark:12", "missing"),
    "a folder": (lambda: "dump", "missing"),
    "a pipe": (lambda: "touch ran |", "is a pipe"),
    "a pipe without a space": (lambda: "touch ran|", "is a pipe"),
    "a pipe into": (lambda: "| touch ran", "is a pipe"),
    "a pipe with an offset": (lambda: "touch ran |:12", "missing"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_audio_is_one_line_that_names_utterance_and_file(recipe, shrink, kind):
    make, says = BROKEN[kind]
    new = make()
    entry(new)
    before = tree(recipe)
    ended = shrink(*PROXY, "--out", "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended
    name = list(read_table(DEV / "wav.scp"))[1]
    assert all(part in ended.err for part in (says, name, "wav.scp" if "|" in new else new))
    assert tree(recipe) == before and not Path("out").exists() and not Path("ran").exists()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_headers_tell_lengths_of_all_that_libsndfile_reads(tmp_path, suffix):
    path = tmp_path / f"x:7 y.{suffix}"  # a path may look like an archive's
    soundfile.write(path, np.sin(np.arange(4000) / 9), 8000)
    utterance = Utterance("a", str(path), "x", "a")
    header = audio_header(utterance)
    assert (header.rate_hz, header.channels) == (8000, 1)
    assert header.frames == len(read_audio(utterance, 8000)) >= 4000


def test_a_model_of_features_says_which_audio_it_cannot_take(recipe, shrink):
    plain_model(Path("exp/features"), {**CONFORMER, "frontend_conf": {}, "input_size": 20})
    ended = shrink(*PROXY, "--exp", "exp/features", "--out", "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended
    assert "the model's" in ended.err and "cannot take wav/dev" in ended.err
    assert not Path("out").exists()
