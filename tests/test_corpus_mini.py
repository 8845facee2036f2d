"""The synthetic corpus: what it holds, and that a seed fixes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from test_corpus_librispeech import ENVIRONMENT, RECIPE, assert_refused, read_scp, run_local

SMALL = {
    "train_utterances": 24,
    "dev_utterances": 6,
    "test_utterances": 6,
    "train_speakers": 6,
    "dev_speakers": 2,
    "test_speakers": 2,
}
SPLITS = ("train-clean-100", "dev-clean", "test-clean")


def options(**changes: float) -> list[str]:
    settings = {**SMALL, **changes}
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def make(out: Path, **changes: float) -> Path:
    done = run_local("make_mini_corpus.py", "--out", out, *options(**changes))
    assert done.returncode == 0, done.stderr
    return out


def samples(corpus: Path) -> dict[str, NDArray[np.int16]]:
    """The audio of every utterance by its id."""
    return {
        path.stem: soundfile.read(path, dtype="int16")[0] for path in sorted(corpus.rglob("*.flac"))
    }


def texts(corpus: Path, split: str) -> dict[str, str]:
    lines = [
        line
        for path in (corpus / split).rglob("*.trans.txt")
        for line in path.read_text().splitlines()
    ]
    return dict(line.split(" ", 1) for line in lines)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("mini") / "mini")


def test_has_librispeechs_layout_and_format(corpus: Path) -> None:
    for split, count in zip(SPLITS, (24, 6, 6), strict=True):
        written = texts(corpus, split)
        assert len(written) == count
        assert all(
            text == text.upper() and 3 <= len(text.split()) <= 14 for text in written.values()
        )
        for utt_id in written:
            speaker, chapter, _ = utt_id.split("-")
            info = soundfile.info(corpus / split / speaker / chapter / f"{utt_id}.flac")
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 0.7 < info.duration < 6


def test_speakers_voices_and_sentences_of_the_splits_are_disjoint(corpus: Path) -> None:
    rows = [line.split() for line in (corpus / "SPEAKERS.TXT").read_text().splitlines()[1:]]
    assert len({row[0] for row in rows}) == len({row[2] for row in rows}) == 10
    folders = [{p.name for p in (corpus / split).iterdir()} for split in SPLITS]
    assert [len(names) for names in folders] == [6, 2, 2]
    assert len(set.union(*folders)) == 10
    sentences = [text for split in SPLITS for text in texts(corpus, split).values()]
    assert len(set(sentences)) == len(sentences) == 36


def test_is_speech_at_a_sane_level(corpus: Path) -> None:
    for utt_id, audio in samples(corpus).items():
        full_scale = np.abs(audio / 32768)
        assert 0.25 < full_scale.max() < 0.95, utt_id
        # Speech is loud in syllables and soft between them; most of its power is below 4 kHz.
        power = np.abs(np.fft.rfft(audio[: len(audio) // 800 * 800].reshape(-1, 800) / 32768)) ** 2
        assert np.percentile(power.sum(1), 90) > 2 * np.percentile(power.sum(1), 10), utt_id
        assert power[:, 1:200].sum() > power[:, 200:].sum(), utt_id


def run_planning(code: str) -> None:
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{RECIPE / 'local'}"}
    setup = "import make_mini_corpus as m, mini_grammar as g\ntakes = m.plan_takes(m.Sizes())\n"
    subprocess.run([sys.executable, "-c", setup + code], env=environment, check=True)


def test_the_default_vocabulary_is_a_few_hundred_words_and_all_are_trained_on() -> None:
    run_planning(
        "words = lambda *splits: {w for t in takes if t.split in splits for w in t.text.split()}\n"
        "assert len({t.text for t in takes}) == len(takes) == 4600\n"
        "assert 200 <= len(g.vocabulary()) <= 450\n"
        "assert words('dev-clean', 'test-clean') <= words('train-clean-100') <= g.vocabulary()\n"
        "assert 4 <= sum(len(t.text.split()) for t in takes) / len(takes) <= 9\n"
    )


def test_train_speakers_share_voices_that_no_dev_or_test_speaker_has() -> None:
    run_planning(
        "voices = {s: {t.speaker: t.voice for t in takes if t.split == s} for s in\n"
        "          ('train-clean-100', 'dev-clean', 'test-clean')}\n"
        "train, dev, test = ({v.name for v in of.values()} for of in voices.values())\n"
        "assert len(dev) == 6 and len(test) == 8 and not (dev | test) & train and not dev & test\n"
        "assert len(set(voices['train-clean-100'].values())) == 200 > len(train)\n"
    )


def test_a_seed_gives_the_same_samples_in_another_process(corpus: Path, tmp_path: Path) -> None:
    first, again = samples(corpus), samples(make(tmp_path / "again"))
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[utt_id], again[utt_id]) for utt_id in first)
    assert texts(make(tmp_path / "other", seed=1), SPLITS[0]) != texts(corpus, SPLITS[0])


def test_noise_is_mixed_at_the_snr_drawn(tmp_path: Path) -> None:
    clean = samples(make(tmp_path / "clean", min_snr_db=90, max_snr_db=90))
    noisy = samples(make(tmp_path / "noisy", min_snr_db=5, max_snr_db=25))
    lines = (tmp_path / "noisy" / "NOISES.TXT").read_text().splitlines()[1:]
    told = {line.split()[0]: line.split()[1:] for line in lines}
    assert told.keys() == noisy.keys()
    assert {kind for kind, _ in told.values()} == {"white", "pink", "babble"}
    for utt_id, (_, snr_db) in told.items():
        speech, mixed = clean[utt_id].astype(float), noisy[utt_id].astype(float)
        scaled = speech * (speech @ mixed) / (speech @ speech)
        measured_db = 10 * np.log10(np.mean(scaled**2) / np.mean((mixed - scaled) ** 2))
        assert 5 <= float(snr_db) <= 25
        assert measured_db == pytest.approx(float(snr_db), abs=1)


def test_a_second_call_leaves_it_alone_and_other_settings_are_refused(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    done = run_local("make_mini_corpus.py", "--out", corpus, *options())
    assert done.returncode == 0 and "already" in done.stdout
    assert_refused(
        run_local("make_mini_corpus.py", "--out", corpus, *options(seed=5)), corpus, "seed"
    )
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_killed_half_way_it_is_absent_and_the_next_call_makes_it_whole(
    corpus: Path, tmp_path: Path
) -> None:
    out, part = tmp_path / "mini", tmp_path / "mini.part"
    command = [sys.executable, str(RECIPE / "local" / "make_mini_corpus.py"), "--out", str(out)]
    child = subprocess.Popen([*command, *options()], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list(part.rglob("*.flac")):
        assert child.poll() is None
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not out.exists()
    whole, first = samples(make(out)), samples(corpus)
    assert whole.keys() == first.keys()
    assert all(np.array_equal(whole[utt_id], first[utt_id]) for utt_id in first)
    assert not part.exists()


@pytest.mark.parametrize(
    "changes", [{"test_speakers": 60}, {"test_utterances": 0}, {"min_snr_db": 40}]
)
def test_refuses_sizes_it_cannot_make(changes: dict[str, float], tmp_path: Path) -> None:
    done = run_local("make_mini_corpus.py", "--out", tmp_path / "mini", *options(**changes))
    assert_refused(done, *changes)
    assert not (tmp_path / "mini").exists()


def test_is_read_as_librispeech_is_read(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "train_mini"
    done = run_local(
        "prepare_librispeech.py", "--corpus_dir", corpus, "--subset", SPLITS[0], "--out", out
    )
    assert done.returncode == 0, done.stderr
    wav, text, speakers = (read_scp(out / name) for name in ("wav.scp", "text", "utt2spk"))
    assert text == texts(corpus, SPLITS[0])
    assert wav.keys() == text.keys() == speakers.keys()
    assert all(Path(path).is_file() for path in wav.values())
    assert len(read_scp(out / "spk2utt")) == 6
