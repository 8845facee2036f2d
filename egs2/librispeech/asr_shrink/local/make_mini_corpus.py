#!/usr/bin/env python3
"""Make a small corpus of synthetic speech in LibriSpeech's layout.

Sentences from a grammar are spoken by the espeak-ng engine with many voices and mixed with noise.
OUT/SPLIT/SPEAKER/CHAPTER/{SPEAKER-CHAPTER-NNNN.flac, SPEAKER-CHAPTER.trans.txt}, 16 kHz mono;
OUT/SPEAKERS.TXT and OUT/NOISES.TXT tell each speaker's voice and each utterance's noise.
The same settings give the same samples.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import soxr
from corpus_io import SAMPLE_RATE_HZ, already_made, making, run, write_flac
from espeak import Espeak, Voice
from mini_grammar import distinct_sentences
from numpy.typing import NDArray
from tqdm import tqdm

from espnet_shrink.errors import ShrinkError

Signal = NDArray[np.float32]

ACCENTS = ("en-us", "en-gb-x-rp")  # American, Received Pronunciation
# espeak-ng's variants that sound most like people: no whispers, robots or monsters.
VARIANTS = (
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alex Andrea Annie Denis Michael adam announcer "
    "belinda benjamin david edward2 john linda max rob steph travis"
).split()
NOISES = ("white", "pink", "babble")
BABBLE_VOICES = 4
UTTERANCES_PER_CHAPTER = 25


@dataclass(frozen=True)
class Sizes:
    """Utterances and speakers of each split, and the seed of everything."""

    train_utterances: int = 4000
    dev_utterances: int = 200
    test_utterances: int = 400
    train_speakers: int = 200
    dev_speakers: int = 6
    test_speakers: int = 8
    seed: int = 0
    min_snr_db: float = 8.0
    max_snr_db: float = 28.0


@dataclass(frozen=True)
class Take:
    """One sentence to be said by one speaker. `utt_id` is SPEAKER-CHAPTER-NNNN."""

    split: str
    utt_id: str
    voice: Voice
    text: str

    @property
    def speaker(self) -> str:
        return self.utt_id.split("-")[0]

    @property
    def folder(self) -> Path:
        return Path(self.split, *self.utt_id.split("-")[:2])


def draw_voices(sizes: Sizes, rng: np.random.Generator) -> dict[str, list[Voice]]:
    """Draw the speakers' voices of every split.

    Each dev and test speaker has an accent and variant that nobody else has. Train speakers share
    the others: many of them, each with its own rate and pitch, so that a model learns to recognise
    speakers it has not heard.

    Raises:
        ShrinkError: more dev and test speakers than that.
    """
    names = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    heldout = sizes.dev_speakers + sizes.test_speakers
    if heldout >= len(names):
        raise ShrinkError(
            f"--dev_speakers, --test_speakers: {heldout} in all: give at most {len(names) - 1}"
        )
    order = [names[index] for index in rng.permutation(len(names))]

    def draw(name: str) -> Voice:
        rate, pitch, pitch_range = rng.integers([120, 30, 30], [151, 71, 71])
        return Voice(name, int(rate), int(pitch), int(pitch_range))

    train = itertools.islice(itertools.cycle(order[heldout:]), sizes.train_speakers)
    return {
        "train": [draw(name) for name in train],
        "dev": [draw(name) for name in order[: sizes.dev_speakers]],
        "test": [draw(name) for name in order[sizes.dev_speakers : heldout]],
    }


def plan_takes(sizes: Sizes) -> list[Take]:
    """Share distinct sentences out over the splits, and over each split's own speakers."""
    rng = np.random.default_rng(sizes.seed)
    voices = draw_voices(sizes, rng)
    splits = [
        ("train-clean-100", voices["train"], sizes.train_utterances),
        ("dev-clean", voices["dev"], sizes.dev_utterances),
        ("test-clean", voices["test"], sizes.test_utterances),
    ]
    sentences = iter(distinct_sentences(sum(count for _, _, count in splits), rng))
    takes = []
    speaker_id = 100
    for split, speakers, count in splits:
        for speaker, voice in enumerate(speakers):
            speaker_id += 1
            for index in range(len(range(speaker, count, len(speakers)))):
                chapter = 10 * speaker_id + index // UTTERANCES_PER_CHAPTER
                number = index % UTTERANCES_PER_CHAPTER
                takes.append(
                    Take(split, f"{speaker_id}-{chapter}-{number:04d}", voice, next(sentences))
                )
    return takes


def speak(takes: list[Take], seed: int) -> list[Signal]:
    """Return each take's clean speech, shape (samples,), at 16 kHz, trimmed to what is heard."""
    engine = Espeak()
    signals = []
    for index, take in enumerate(tqdm(takes, desc="espeak-ng", unit="utt")):
        spoken = engine.say(take.text.lower(), take.voice, seed=seed + index)
        heard = np.flatnonzero(np.abs(spoken) > 0.01 * np.abs(spoken).max())
        edge = int(0.1 * engine.sample_rate_hz)
        spoken = spoken[max(heard[0] - edge, 0) : heard[-1] + edge]
        spoken = spoken - spoken.mean()  # some variants have an offset
        signals.append(soxr.resample(spoken, engine.sample_rate_hz, SAMPLE_RATE_HZ))
    return signals


def make_noise(
    kind: str, samples: int, others: list[Signal], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return noise, shape (samples,), of any level; babble is a mix of some of `others`."""
    if kind == "babble":
        mix = np.zeros(samples)
        for index in rng.choice(len(others), size=min(BABBLE_VOICES, len(others)), replace=False):
            voice = np.roll(others[index], rng.integers(len(others[index])))
            mix += np.resize(voice, samples) / np.sqrt(np.mean(voice**2))
        return mix
    if kind == "white":
        return rng.standard_normal(samples)
    # Pink: power falls as 1/f, above what a microphone lets through.
    size = 1 << samples.bit_length()  # a prime length would take a hundred times longer
    frequency_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    shape = np.where(frequency_hz > 50, 1 / np.sqrt(np.maximum(frequency_hz, 50)), 0)
    return np.fft.irfft(shape * np.fft.rfft(rng.standard_normal(size)), n=size)[:samples]


def mix_at_snr(
    speech: Signal, noise: NDArray[np.float64], snr_db: float, peak: float
) -> NDArray[np.float64]:
    """Add `noise` at `snr_db` over the whole utterance; scale the sum to `peak` of full scale."""
    gain = np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    mixed = speech + gain * noise
    return mixed * (peak / np.abs(mixed).max())


def write_split(out: Path, takes: list[Take], signals: list[Signal], sizes: Sizes) -> list[str]:
    """Write one split's audio and transcripts; return its lines of NOISES.TXT."""
    by_speaker: dict[str, list[Signal]] = defaultdict(list)
    for take, signal in zip(takes, signals, strict=True):
        by_speaker[take.speaker].append(signal)
    transcripts: dict[Path, list[str]] = defaultdict(list)
    lines = []
    for take, speech in zip(tqdm(takes, desc=takes[0].split, unit="utt"), signals, strict=True):
        rng = np.random.default_rng([sizes.seed, *map(int, take.utt_id.split("-"))])
        kind = NOISES[rng.integers(len(NOISES))]
        snr_db = rng.uniform(sizes.min_snr_db, sizes.max_snr_db)
        others = [s for name, of in by_speaker.items() if name != take.speaker for s in of]
        noise = make_noise(kind, len(speech), others or signals, rng)
        mixed = mix_at_snr(speech, noise, snr_db, peak=rng.uniform(0.3, 0.9))
        (out / take.folder).mkdir(parents=True, exist_ok=True)
        write_flac(out / take.folder / f"{take.utt_id}.flac", mixed)
        speaker, chapter, _ = take.utt_id.split("-")
        transcript = out / take.folder / f"{speaker}-{chapter}.trans.txt"
        transcripts[transcript].append(f"{take.utt_id} {take.text}\n")
        lines.append(f"{take.utt_id} {kind} {snr_db:.1f}\n")
    for path, texts in transcripts.items():
        path.write_text("".join(texts), encoding="utf-8")
    return lines


def make_corpus(out: Path, takes: list[Take], sizes: Sizes) -> None:
    """Write the whole corpus under `out`. Call it once in a process (see `espeak.Espeak`)."""
    signals = speak(takes, sizes.seed)
    noises = []
    for split in dict.fromkeys(take.split for take in takes):
        chosen = [i for i, take in enumerate(takes) if take.split == split]
        noises += write_split(out, [takes[i] for i in chosen], [signals[i] for i in chosen], sizes)
    (out / "NOISES.TXT").write_text("; UTTERANCE NOISE SNR_DB\n" + "".join(noises))
    speakers = {take.speaker: take for take in takes}
    (out / "SPEAKERS.TXT").write_text(
        "; ID SUBSET VOICE RATE PITCH PITCH_RANGE\n"
        + "".join(
            f"{speaker} {t.split} {t.voice.name} {t.voice.rate} {t.voice.pitch} "
            f"{t.voice.pitch_range}\n"
            for speaker, t in speakers.items()
        )
    )
    hours = sum(map(len, signals)) / SAMPLE_RATE_HZ / 3600
    words = {word for take in takes for word in take.text.split()}
    print(
        f"{len(takes)} utterances, {hours:.2f} hours, {len(words)} words, {len(speakers)} speakers"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for field in fields(Sizes):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    args = parser.parse_args()
    sizes = Sizes(**{field.name: getattr(args, field.name) for field in fields(Sizes)})
    for field in fields(Sizes):
        if field.type == "int" and field.name != "seed" and getattr(sizes, field.name) < 1:
            raise ShrinkError(f"--{field.name} {getattr(sizes, field.name)}: give at least 1")
    if sizes.min_snr_db > sizes.max_snr_db:
        raise ShrinkError(f"--min_snr_db {sizes.min_snr_db}: give at most {sizes.max_snr_db}")
    if already_made(args.out, asdict(sizes)):
        print(f"{args.out} is there already: nothing to do")
        return
    takes = plan_takes(sizes)
    with making(args.out, asdict(sizes)) as beside:
        make_corpus(beside, takes, sizes)


if __name__ == "__main__":
    run(main)
