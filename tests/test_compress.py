"""One command: a packed model or an experiment folder in, a smaller packed model out."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from architectures import make
from conftest import ENVIRONMENT, ROUNDS, SEARCH, python, run_cli, tree
from test_proxy_decoders import data  # noqa: F401

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.report.results import load
from espnet_shrink.sources import open_source

DECODE = """
import sys, json, soundfile
import espnet_shrink
from espnet2.bin.asr_inference import Speech2Text
decode = Speech2Text.from_pretrained(sys.argv[1], beam_size=2, ctc_weight=0.3, lm_weight=0.1)
assert decode.asr_train_args.adapter == "espnet_shrink"
found = [decode(soundfile.read(path)[0])[0] for path in sys.argv[2:]]
print("FOUND " + json.dumps([[hyp[0], float(hyp[3].score)] for hyp in found]))
"""


@pytest.fixture
def presets():
    """search.yaml and rounds.yaml in the current folder, small enough for tests."""
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}), encoding="utf-8")
    Path("rounds.yaml").write_text(yaml.safe_dump(ROUNDS), encoding="utf-8")
    return ["--rounds_config", "rounds.yaml", "--search_config", "search.yaml"]


def texts(archive: Path, *audio: Path) -> list:
    """What ESPnet's own `from_pretrained` decodes, in a process of its own."""
    done = python("-c", DECODE, archive.absolute(), *audio, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("FOUND ")[1])


def test_a_packed_model_becomes_a_smaller_one_that_decodes_as_its_folder(packed, presets, shrink):
    """With its language model, its BPE model and its statistics, without retraining."""
    here = Path.cwd()
    os.chdir(packed)  # the data's paths are relative
    arguments = ["compress", "model.zip", "--data", "dump/raw/dev", "--target", "1.5x",
                 "--no-retrain", "--out", here / "out",
                 "--rounds_config", here / "rounds.yaml",
                 "--search_config", here / "search.yaml"]  # fmt: skip
    done = shrink(*arguments)
    audio = [(packed / "wav" / f"dev{i}-0{i}.wav").absolute() for i in (0, 1)]
    os.chdir(here)
    assert done.status == 0, done.err
    (archive,) = Path("out").glob("*.zip")
    results = load("out/results.json")
    assert archive.name == f"model_{results.final.compression:.1f}x.zip"
    assert str(archive) in done.out
    assert results.final.compression >= 1.5
    assert results.final.wer["dev"] >= 0 and results.control is None

    exp = Path("out") / results.final.exp
    assert plan_of(load_model(*find_model(exp)).model).factored
    source = open_source(str(archive), Path("unpacked"))
    assert source.lm_config is not None and len(source.files) == 2
    for name in ("README.md", "RESULTS.md", "results.json", "wer.png"):
        assert name in zipfile.ZipFile(archive).namelist()
    before = torch.load(find_model(exp)[1], weights_only=True)
    after = torch.load(source.checkpoint, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)

    # The same texts and scores from the zip as from the folder, through ESPnet alone.
    found = texts(archive, *audio)
    from espnet2.bin.asr_inference import Speech2Text

    base = open_source("out/base", Path("unused"))
    folder = Speech2Text(
        str(exp / "config.yaml"), str(exp / "valid.acc.ave.pth"),
        lm_train_config=str(base.lm_config), lm_file=str(base.lm_checkpoint),
        beam_size=2, ctc_weight=0.3, lm_weight=0.1,
    )  # fmt: skip
    for (text, score), path in zip(found, audio, strict=True):
        best = folder(soundfile.read(path)[0])[0]
        assert text == best[0]
        assert score == pytest.approx(float(best[3].score), abs=1e-3)

    # Again: nothing is done anew.
    kept = {path: content for path, content in tree(Path("out")).items() if "round" in path}
    os.chdir(packed)
    assert shrink(*arguments).status == 0
    os.chdir(here)
    again = tree(Path("out"))
    assert all(again[path] == content for path, content in kept.items())


def test_the_card_says_what_was_done(packed, presets, shrink):
    here = Path.cwd()
    os.chdir(packed)
    done = shrink("compress", "model.tgz", "--data", "dump/raw/dev", "--target", "1.3",
                  "--no-retrain", "--out", here / "out", "--rounds_config", here / "rounds.yaml",
                  "--search_config", here / "search.yaml")  # fmt: skip
    os.chdir(here)
    assert done.status == 0, done.err
    (archive,) = Path("out").glob("*.zip")
    assert archive.name.startswith("model_1.")
    card = zipfile.ZipFile(archive).read("README.md").decode()
    front = yaml.safe_load(card.split("---")[1])
    results = load("out/results.json")
    assert front["base_model"] == "model.tgz" and front["license"] == "unknown"
    config = read_yaml(Path("out") / results.final.exp / "config.yaml")
    assert config["adapter_conf"]["base_hash"] in card
    assert f"{results.final.compression:.2f} times smaller" in card
    assert f"{results.baseline.wer['dev']:.2f}" in card
    for site, rank in config["adapter_conf"]["ranks"].items():
        assert f"|{site}|{rank}|" in card
    assert results.versions.espnet in card and "espnet-shrink compress" in card
    assert "pip install espnet_shrink" in card


def test_a_conformer_is_retrained_on_a_folder_of_the_users(data, tmp_path, monkeypatch, shrink):  # noqa: F811
    """An experiment folder in; its config names no training data."""
    monkeypatch.chdir(tmp_path)
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}), encoding="utf-8")
    Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, "step": 2.0, "train": {
        "batch_type": "sorted", "batch_size": 2, "optim": "adam", "optim_conf": {"lr": 0.001},
    }}), encoding="utf-8")  # fmt: skip
    make("conformer", Path("exp"))
    arguments = ["compress", "exp/config.yaml", "--data", data, "--target", "1.6x", "--out", "out",
                 "--rounds_config", "rounds.yaml", "--search_config", "search.yaml"]  # fmt: skip
    refused = shrink(*arguments)
    assert refused.status == 2 and "(--train DIR), or --no-retrain" in refused.err
    done = shrink(*arguments, "--train", data)
    assert done.status == 0, done.err
    results = load("out/results.json")
    assert results.final.compression >= 1.6 and results.control is not None
    assert len(results.rounds) == 1
    (archive,) = Path("out").glob("*.zip")
    assert archive.name == f"exp_{results.final.compression:.1f}x.zip"
    base = sum(v.numel() for v in torch.load("exp/valid.acc.ave.pth", weights_only=True).values())
    source = open_source(str(archive), Path("unpacked"))
    small = sum(v.numel() for v in torch.load(source.checkpoint, weights_only=True).values())
    assert base / small > 1.4  # statistics and other buffers stay
    log = Path("out/round1/train.log").read_text()
    assert "2epoch results" in log


def test_several_sizes_share_what_they_can_and_are_each_what_they_would_be_alone(
    recipe, presets, shrink
):
    rest = ["--data", "dump/raw/dev", "--no-retrain", *presets]
    done = shrink("compress", "exp/asr", *rest, "--target", "1.6x,1.2x", "--out", "both")
    assert done.status == 0, done.err
    alone = shrink("compress", "exp/asr", *rest, "--target", "1.2x", "--out", "one")
    assert alone.status == 0, alone.err
    results = load("both/results.json")
    assert [size.target for size in results.sizes] == [1.2, 1.6]
    for size in results.sizes:
        found = load_model(*find_model(Path("both") / size.final.exp))
        assert found.params == size.final.params
        assert found.params <= results.baseline.params / size.target
    plan, by_itself = (
        read_yaml(f"{out}/round1/plan.yaml")["ranks"] for out in ("both/1.2x", "one")
    )
    assert plan == by_itself
    first, second = (size.final.compression for size in results.sizes)
    archives = sorted(path.name for path in Path("both").glob("*.zip"))
    assert archives == [f"asr_{first:.1f}x.zip", f"asr_{second:.1f}x.zip"]
    assert f"{first:.2f}x" in done.out and f"{second:.2f}x" in done.out
    assert Path("both/pareto.png").exists() and done.out.count("packed: ") == 2
    before = tree(Path("both"))
    again = shrink("compress", "exp/asr", *rest, "--target", "1.6x,1.2x", "--out", "both")
    assert again.status == 0 and tree(Path("both")).keys() == before.keys()
    twice = shrink("compress", "exp/asr", *rest, "--target", "2x,2x", "--out", "none")
    assert twice.status == 2 and "twice" in twice.err and not Path("none").exists()


def test_killed_it_goes_on_where_it_was(packed, presets):
    here = Path.cwd()
    command = [
        sys.executable, "-m", "espnet_shrink.cli", "compress", "model.zip", "--data",
        "dump/raw/dev", "--target", "1.5x", "--no-retrain", "--rounds_config", here / "rounds.yaml",
        "--search_config", here / "search.yaml",
    ]  # fmt: skip

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([*map(str, command), "--out", str(out)], cwd=packed,
                                env=ENVIRONMENT, stderr=subprocess.DEVNULL)  # fmt: skip

    victim = start(here / "killed")
    state = here / "killed" / "round1" / "search" / "log.csv"
    while not state.exists():
        assert victim.poll() is None
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not list((here / "killed").glob("*.zip"))
    assert start(here / "killed").wait() == 0
    assert start(here / "whole").wait() == 0
    ranks = [read_yaml(here / name / "round1/round.yaml")["ranks"] for name in ("killed", "whole")]
    assert ranks[0] == ranks[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch.zip", "--data", "dump/raw/dev"], "no such file or folder"),
        (["exp/asr", "--data", "nosuch"], "no such data folder: nosuch"),
        (["exp/asr", "--data", "dump/raw/dev", "--target", "much"], "is no compression"),
        (["exp/asr", "--data", "dump/raw/dev", "--target", "0.5x"], "must be above 1"),
        (["exp/asr", "--data", "dump/raw/dev", "--target", "500x"], "cannot be met"),
        (["exp/asr", "--data", "dump/raw/dev", "--train", "x", "--no-retrain"], "give one"),
        (["exp/asr", "--data", "dump/raw/dev", "--train", "nosuch"], "no such data folder: nosuch"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_left(recipe, shrink, arguments, said):
    before = tree(recipe)
    done = shrink("compress", *arguments, "--out", "out")
    assert done.status == 2
    assert said in done.err.splitlines()[-1]
    after = {path: content for path, content in tree(recipe).items() if "out/proxy" not in path}
    assert after == before


def test_a_model_that_was_compressed_is_refused(small, shrink):
    done = shrink("compress", "exp/small", "--data", "dump/raw/dev", "--no-retrain", "--out", "o")
    assert done.status == 2 and "compressed already" in done.err


def test_without_the_plugin_espnet_names_the_package_to_install(small, recipe):
    code = (
        "from espnet2.bin.asr_inference import Speech2Text\n"
        f"Speech2Text('{small.config}', '{small.checkpoint}')\n"
    )
    done = python("-c", code, cwd=recipe)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "AssertionError: Adapter espnet_shrink is not supported."
    )


def test_the_order_of_the_verbs_helps(capsys):
    assert run_cli(["--help"]) == 0
    assert "espnet-shrink compress MODEL" in capsys.readouterr().out


def test_a_model_recovers_on_recordings_without_texts(recipe, shrink, tmp_path):
    """Its own texts, in a folder of their own, and itself as the teacher."""
    sounds = Path("sounds")
    sounds.mkdir()
    lines = Path("dump/raw/train/wav.scp").read_text().splitlines()[:24]
    (sounds / "wav.scp").write_text("\n".join(lines) + "\n")
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}))
    rounds = {**ROUNDS, "target": 1.3, "step": 2.0, "final_epochs": 1, "control": False}
    Path("rounds.yaml").write_text(yaml.safe_dump(rounds))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--unlabelled", "sounds",
                  "--rounds_config", "rounds.yaml", "--search_config", "search.yaml", "--out",
                  "out")  # fmt: skip
    assert done.status == 0, done.err
    made = Path("out/unlabelled/train/text").read_text().splitlines()
    assert 0 < len(made) <= 24 and {line.split()[0] for line in made} <= {
        line.split()[0] for line in lines
    }
    config = read_yaml("out/round1/config.yaml")
    assert config["train_data_path_and_name_and_type"][1][0] == "out/unlabelled/train/text"
    assert "token_kl" in Path("out/round1/train.log").read_text()
    state = torch.load("out/round1/valid.acc.ave.pth", weights_only=True)
    assert not any("teacher" in key for key in state)
    both = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--unlabelled", "sounds",
                  "--train", "dump/raw/train", "--out", "none")  # fmt: skip
    assert both.status == 2 and "both give data" in both.err and not Path("none").exists()
    none = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--unlabelled", "nowhere",
                  "--target", "1.3x", "--out", "none")  # fmt: skip
    assert none.status == 2 and none.err.count("\n") == 1 and "nowhere" in none.err
