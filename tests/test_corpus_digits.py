"""Strings of digits from single recordings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_corpus_librispeech import assert_refused, make_recipe, read_scp, run_local, write_tone

WORDS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
COUNT = 12
SETS = {"train_digits": 1600, "dev_digits": 300, "test_digits": 600}
# Which of the 12 recordings a set may use, lowest index first.
MAY_USE = {"test_digits": range(5), "dev_digits": range(5, 10), "train_digits": range(10, 12)}


def pitch_hz(speaker: str, digit: int, index: int) -> int:
    """A pitch that tells one recording from all others: 25 Hz apart and below 4 kHz."""
    return 200 + 25 * ((digit * COUNT + index) + (10 if speaker == "bo" else 0))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "recordings"
    for speaker in ("ann", "bo"):
        for digit in range(10):
            for index in range(COUNT):
                # Indices from 3 on and with two places: order by number, not by name.
                path = folder / f"{digit}_{speaker}_{index + 3}.wav"
                write_tone(path, 8000, seconds=0.2, pitch_hz=pitch_hz(speaker, digit, index))
    return folder


@pytest.fixture(scope="module")
def recipe(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_recipe(tmp_path_factory.mktemp("recipe"))
    done = run_local("data.sh", "--corpus", "digits", "--digits_dir", recordings, cwd=recipe)
    assert done.returncode == 0, done.stderr
    return recipe


def heard(audio: np.ndarray) -> list[int]:
    """The pitches in `audio`, in Hz to the nearest 25, split at its pauses."""
    loud = np.convolve(np.abs(audio) > 0.05, np.ones(161), "same") > 0
    edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0)).reshape(-1, 2)
    return [
        round(float(np.abs(np.fft.rfft(audio[a:b], 16000)).argmax()) / 25) * 25 for a, b in edges
    ]


def test_makes_kaldi_folders_of_the_right_sizes(recipe: Path) -> None:
    assert {p.name for p in (recipe / "data").iterdir()} == set(SETS)
    for name, size in SETS.items():
        folder = recipe / "data" / name
        wav, text, speakers = (read_scp(folder / f) for f in ("wav.scp", "text", "utt2spk"))
        assert len(wav) == size and wav.keys() == text.keys() == speakers.keys()
        assert all(u.startswith(f"{s}-") for u, s in speakers.items())
        assert set(read_scp(folder / "spk2utt")) == {"ann", "bo"}
        lengths = {len(string.split()) for string in text.values()}
        assert lengths == {3, 4, 5, 6, 7}
        assert {word for string in text.values() for word in string.split()} == set(WORDS)


@pytest.mark.parametrize("name", SETS)
def test_strings_hold_what_the_text_says_from_this_sets_recordings_of_one_speaker(
    name: str, recipe: Path
) -> None:
    folder = recipe / "data" / name
    wav, text, speakers = (read_scp(folder / f) for f in ("wav.scp", "text", "utt2spk"))
    used = set()
    for utt_id in list(wav)[::10]:
        audio, rate_hz = soundfile.read(recipe / wav[utt_id])
        digits = [WORDS.index(word) for word in text[utt_id].split()]
        pitches = heard(audio)
        assert rate_hz == 16000 and len(pitches) == len(digits)
        for digit, pitch in zip(digits, pitches, strict=True):
            index = {pitch_hz(speakers[utt_id], digit, i): i for i in range(COUNT)}[pitch]
            used.add(index)
        pauses_s = len(audio) / 16000 - 0.2 * len(digits)
        assert 0.05 <= pauses_s / (len(digits) + 1) <= 0.2
    assert used == set(MAY_USE[name])


def test_a_seed_gives_the_same_strings(recordings: Path, recipe: Path, tmp_path: Path) -> None:
    made = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        done = run_local(
            "prepare_digits.py", "--recordings", recordings, "--audio", out / "audio",
            "--out", out / "data", "--seed", seed, "--strings", 20, 20, 40,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made.append(out)
    # The number of strings does not change a string.
    texts = [read_scp(folder / "data" / "test_digits" / "text") for folder in (recipe, *made)]
    assert len(texts[1]) == 40 and texts[1].items() <= texts[0].items()
    assert texts[1] != texts[2]
    for utt_id in texts[1]:
        name = f"test_digits/{utt_id}.flac"
        first, _ = soundfile.read(recipe / "downloads" / "digits" / name)
        again, _ = soundfile.read(made[0] / "audio" / name)
        assert np.array_equal(first, again)


def _wrong_name(folder: Path) -> str:
    (folder / "3_ann_4.wav").rename(folder / "three_ann_4.wav")
    return "three_ann_4.wav"


def _wrong_rate(folder: Path) -> str:
    write_tone(folder / "3_ann_4.wav", 16000)
    return "3_ann_4.wav: 16000 Hz"


def _not_audio(folder: Path) -> str:
    (folder / "3_ann_4.wav").write_bytes(b"no audio")
    return "3_ann_4.wav"


def _too_few(folder: Path) -> str:
    (folder / "3_ann_4.wav").unlink()
    (folder / "3_ann_5.wav").unlink()
    return "10 recordings of digit 3 by ann"


def _empty(folder: Path) -> str:
    for path in folder.iterdir():
        path.unlink()
    return "no .wav file"


def _missing(folder: Path) -> str:
    shutil.rmtree(folder)
    return "no such folder"


@pytest.mark.parametrize(
    "damage", [_wrong_name, _wrong_rate, _not_audio, _too_few, _empty, _missing]
)
def test_refuses_bad_recordings_in_one_line_and_writes_nothing(
    damage: Callable[[Path], str], recordings: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(recordings, tmp_path / "recordings")
    said = damage(folder)
    done = run_local(
        "prepare_digits.py", "--recordings", folder, "--audio", tmp_path / "audio",
        "--out", tmp_path / "data",
    )  # fmt: skip
    assert_refused(done, tmp_path / "recordings", said)
    assert not (tmp_path / "audio").exists() and not (tmp_path / "data").exists()
