"""A tiny ESPnet recipe: synthetic speech, and a model trained on it by ESPnet's own trainer."""

import contextlib
import copy
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import packing
import pytest
import soundfile
import torch
import yaml
from filelock import FileLock
from toy import random_plan

from espnet_shrink import cli
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import model_hash
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import Plan

RATE_HZ = 16000
TONES_HZ = {"a": 500.0, "b": 1100.0, "c": 2000.0, "d": 3300.0}
SETS = {"train": 96, "dev": 12, "test": 6}
TOKENS = ["<blank>", "<unk>", "<space>", *TONES_HZ, "<sos/eos>"]

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

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
    "max_epoch": 12,  # enough for the CTC head to know the tones
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
    """Run this Python with one thread, and wait for it."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


def train(root: Path) -> None:
    """Make the recipe in `root` and train exp/asr in it."""
    write_data(root)
    (root / "train.yaml").write_text(yaml.safe_dump(training_config()), encoding="utf-8")
    done = python("-m", "espnet_shrink.run", "-m", "espnet2.bin.asr_train", "--config",
                  "train.yaml", cwd=root)  # fmt: skip
    assert done.returncode == 0, done.stderr


def made_once(name: str, make: Callable[[Path], None], factory: pytest.TempPathFactory) -> Path:
    """The folder that `make` fills, made by the first of pytest-xdist's workers that wants it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            beside = folder.with_name(f"{name}.part")
            shutil.rmtree(beside, ignore_errors=True)
            make(beside)
            beside.rename(folder)
    return folder


@pytest.fixture(scope="session")
def trained_recipe(tmp_path_factory) -> Path:
    """The recipe with its trained exp/asr; not to be written to."""
    return made_once("trained", train, tmp_path_factory)


@pytest.fixture
def recipe(trained_recipe, tmp_path, monkeypatch) -> Path:
    """A copy of the trained recipe, and the current folder."""
    copy = tmp_path / "recipe"
    shutil.copytree(trained_recipe, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def baseline(recipe):
    """The trained model."""
    from espnet_shrink.pipeline.opening import open_baseline

    return open_baseline("exp/asr")


def compress(loaded: LoadedModel, plan: Plan, exp: Path) -> LoadedModel:
    """Factorise a copy of `loaded` and write it to `exp` as ESPnet's trainer would."""
    small = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    sites = survey(small.model).sites
    decompositions = decompose_sites(dict(small.model.named_parameters()), sites, None)
    factorise(small.model, plan, factors_of(plan, decompositions))
    exp.mkdir(parents=True)
    config = {**read_yaml(loaded.config), "use_adapter": True, "adapter": "espnet_shrink",
              "adapter_conf": adapter_conf(plan, model_hash(loaded.model))}  # fmt: skip
    (exp / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    torch.save(small.model.state_dict(), exp / "valid.acc.ave.pth")
    return dataclasses.replace(
        small, config=exp / "config.yaml", checkpoint=exp / "valid.acc.ave.pth"
    )


@pytest.fixture
def small(baseline) -> LoadedModel:
    """exp/small: the model with a random rank, or none, for every site."""
    plan = random_plan(survey(baseline.model).sites, 3)
    assert 8 < len(plan.factored) < len(plan.ranks)
    return compress(baseline, plan, Path("exp/small"))


@pytest.fixture(scope="session")
def packed_recipe(trained_recipe, tmp_path_factory) -> Path:
    """The recipe with model.zip and model.tgz, as packing.py makes them; not to be written to."""

    def make(root: Path) -> None:
        shutil.copytree(trained_recipe, root, symlinks=True)
        with contextlib.chdir(root):
            packing.make()

    return made_once("packed", make, tmp_path_factory)


@pytest.fixture
def packed(packed_recipe, tmp_path, monkeypatch) -> Path:
    """The recipe with the packed models; the current folder is another, an empty one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return packed_recipe


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> (mtime, content) of every file below `folder`, locks aside."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


SEARCH = {"evaluations": 40, "rollouts": 4, "min_rank": 1, "seed": 3}
ROUNDS = {"target": 1.6, "step": 1.3, "epochs": 1, "final_epochs": 2, "wer_limit_absolute": 1000.0}
COMMANDS = {
    "proxy": ["--out", "small/proxy", "--data", "dump/raw/dev", "--size", 8],
    "space": ["--out", "small", "--search_config", "search.yaml"],
    "search": ["--out", "small/search", "--proxy", "small/proxy", "--data", "dump/raw/dev",
               "--search_config", "search.yaml", "--space", "small/space.yaml", "--rounds_config",
               "rounds.yaml"],
    "rounds": ["--out", "small", "--proxy", "small/proxy", "--data", "dump/raw/dev",
               "--rounds_config", "rounds.yaml", "--search_config", "search.yaml",
               "--plan", "small/search/plan.yaml"],
    "report": ["--out", "small", "--data_root", "dump/raw", "--test_sets", "test",
               "--inference_tag", "decode", "--corpus", "tones", "--command", "./run.sh"],
}  # fmt: skip


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """One thread, also for the processes that are started: sums then have one order."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {sorted(cores)[WORKER % len(cores)]})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def run_cli(arguments: Sequence[object]) -> int:
    """Call the command line in this process; gives its exit status."""
    before = sys.argv
    sys.argv = ["espnet-shrink", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def arguments(verb: str) -> list[str]:
    """The command line of a verb in the finished recipe."""
    return [verb, "--exp", "exp/asr", *map(str, COMMANDS[verb])]


# Test utterances that lose their last word, by experiment.
LOSES = {"exp/asr": 1, "small/round1": 4, "small/round2": 2, "small/control": 3}


def write_hypotheses(root: Path) -> None:
    """EXP/decode/test/text and its log, as decoding leaves them."""
    texts = (root / "dump/raw/test/text").read_text(encoding="utf-8").splitlines()
    for exp, loses in LOSES.items():
        folder = root / exp / "decode" / "test"
        (folder / "logdir").mkdir(parents=True)
        lines = [line.rpartition(" ")[0] if i < loses else line for i, line in enumerate(texts)]
        (folder / "text").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "logdir" / "calculate_rtf.log").write_text(f"RTF: 0.{loses}25\n")


@pytest.fixture(scope="session")
def finished_recipe(trained_recipe, tmp_path_factory) -> Path:
    """The recipe after every verb, with two rounds; not to be written to."""

    def finish(root: Path) -> None:
        shutil.copytree(trained_recipe, root, symlinks=True)
        (root / "search.yaml").write_text(yaml.safe_dump(SEARCH), encoding="utf-8")
        (root / "rounds.yaml").write_text(yaml.safe_dump(ROUNDS), encoding="utf-8")
        with contextlib.chdir(root), one_core():
            for verb in COMMANDS:
                if verb == "report":
                    write_hypotheses(root)
                assert run_cli(arguments(verb)) == 0, verb

    return made_once("finished", finish, tmp_path_factory)


@pytest.fixture
def finished(finished_recipe, tmp_path, monkeypatch) -> Path:
    """A copy of the finished recipe, and the current folder."""
    copy = tmp_path / "finished"
    shutil.copytree(finished_recipe, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def shrink(capfd):
    """Call the command line in this process: shrink("proxy", "--exp", ...) -> Ended."""

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        status = run_cli(arguments)
        written = capfd.readouterr()
        return Ended(status, written.out, written.err)

    return call
