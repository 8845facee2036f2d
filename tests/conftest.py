"""A tiny ESPnet recipe: synthetic speech, and a model trained on it by ESPnet's own trainer."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

RATE_HZ = 16000
TONES_HZ = {"a": 500.0, "b": 1100.0, "c": 2000.0, "d": 3300.0}
SETS = {"train": 24, "dev": 12, "test": 6}
TOKENS = ["<blank>", "<unk>", "<space>", *TONES_HZ, "<sos/eos>"]

# One thread: numbers must not depend on how many cores there are.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

CONFIG = {
    "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 20},
    "normalize": "utterance_mvn",
    "encoder": "rnn",
    "encoder_conf": {
        "num_layers": 2, "hidden_size": 16, "output_size": 12, "subsample": [2, 1], "dropout": 0.0,
    },
    "decoder": "rnn",
    "decoder_conf": {
        "num_layers": 1, "hidden_size": 14,
        "att_conf": {"atype": "location", "adim": 10, "aconv_chans": 3, "aconv_filts": 4},
    },
    "model_conf": {"ctc_weight": 0.5, "report_cer": False, "report_wer": False},
    "optim": "adam",
    "optim_conf": {"lr": 0.02},
    "batch_type": "sorted",
    "batch_size": 4,
    "max_epoch": 1,
    "num_workers": 0,
    "num_att_plot": 0,
    "keep_nbest_models": 1,
    "best_model_criterion": [["valid", "acc", "max"]],
    "use_tensorboard": False,
    "token_type": "char",
    "token_list": "data/tokens.txt",
    "seed": 0,
}  # fmt: skip


def speech(text: str, generator: np.random.Generator) -> np.ndarray:
    """A tone for every letter, silence between words, faint noise: (samples,) float32."""
    parts = []
    for letter in f" {text} ":
        t = np.arange(int(RATE_HZ * generator.uniform(0.07, 0.1))) / RATE_HZ
        level = 0.3 * np.hanning(len(t)) ** 0.2
        parts.append(level * np.sin(2 * np.pi * TONES_HZ.get(letter, 0.0) * t))
    samples = np.concatenate(parts)
    return (samples + 0.002 * generator.standard_normal(len(samples))).astype(np.float32)


def write_data(root: Path) -> None:
    """dump/raw/{train,dev,test}, wav/, data/tokens.txt and stats/SET/{speech,text}_shape."""
    generator = np.random.default_rng(7)
    (root / "wav").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "data" / "tokens.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    for name, size in SETS.items():
        files = {key: "" for key in ("wav.scp", "text", "utt2spk", "speech_shape", "text_shape")}
        for number in range(size):
            utterance, speaker = f"{name}{number % 3}-{number:02}", f"{name}{number % 3}"
            letters = generator.choice(list(TONES_HZ), size=(generator.integers(1, 4), 2))
            text = " ".join("".join(word) for word in letters)
            samples = speech(text, generator)
            soundfile.write(root / "wav" / f"{utterance}.wav", samples, RATE_HZ)
            files["wav.scp"] += f"{utterance} wav/{utterance}.wav\n"
            files["text"] += f"{utterance} {text}\n"
            files["utt2spk"] += f"{utterance} {speaker}\n"
            files["speech_shape"] += f"{utterance} {len(samples)}\n"
            files["text_shape"] += f"{utterance} {len(text)},{len(TOKENS)}\n"
        for key, content in files.items():
            folder = root / ("stats" if key.endswith("shape") else "dump/raw") / name
            folder.mkdir(parents=True, exist_ok=True)
            lines = "".join(sorted(content.splitlines(keepends=True)))
            (folder / key).write_text(lines, encoding="utf-8")


def training_config() -> dict:
    data = {}
    for key, name in (("train", "train"), ("valid", "dev")):
        data[f"{key}_data_path_and_name_and_type"] = [
            [f"dump/raw/{name}/wav.scp", "speech", "sound"],
            [f"dump/raw/{name}/text", "text", "text"],
        ]
        data[f"{key}_shape_file"] = [f"stats/{name}/speech_shape", f"stats/{name}/text_shape"]
    return {**CONFIG, **data, "output_dir": "exp/asr"}


def python(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run this Python on one core, and wait for it."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="session")
def trained_recipe(tmp_path_factory) -> Path:
    """The recipe with its trained exp/asr; not to be written to."""
    root = tmp_path_factory.mktemp("trained") / "recipe"
    write_data(root)
    (root / "train.yaml").write_text(yaml.safe_dump(training_config()), encoding="utf-8")
    done = python("-m", "espnet_shrink.run", "-m", "espnet2.bin.asr_train", "--config",
                  "train.yaml", cwd=root)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def recipe(trained_recipe, tmp_path, monkeypatch) -> Path:
    """A copy of the trained recipe, and the current folder."""
    copy = tmp_path / "recipe"
    shutil.copytree(trained_recipe, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def shrink(monkeypatch, capfd):
    """Call the command line in this process: shrink("proxy", "--exp", ...) -> Ended."""
    from espnet_shrink import cli

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["espnet-shrink", *map(str, arguments)])
        capfd.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        written = capfd.readouterr()
        return Ended(status, written.out, written.err)

    return call
