"""Retraining starts from the last rate that the base was trained at, or asks for one."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROUNDS, SEARCH, python

from espnet_shrink.compat.last_rate import last_rate
from espnet_shrink.core.files import read_yaml

EXP = Path("exp/asr")


def trained_with(**keys):
    """Train the recipe's model for two epochs with other settings; gives its last rate."""
    shutil.rmtree(EXP)
    config = {**read_yaml("train.yaml"), "max_epoch": 2, **keys}
    Path("other.yaml").write_text(yaml.safe_dump(config))
    done = python("-m", "espnet_shrink.run", "-m", "espnet2.bin.asr_train", "--config",
                  "other.yaml", cwd=Path.cwd())  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (EXP / "train.log").write_text(done.stderr)
    state = torch.load(EXP / "checkpoint.pth", weights_only=False)
    return state["optimizers"][0]["param_groups"][0]["lr"]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {"optim": "adam", "optim_conf": {"lr": 5.0}, "scheduler": "noamlr",
     "scheduler_conf": {"model_size": 16, "warmup_steps": 300}, "num_iters_per_epoch": 20},
    {"optim": "adadelta", "optim_conf": {}},
])  # fmt: skip
def test_checkpoint_log_and_schedule_agree_and_rounds_start_there(recipe, shrink, settings):
    last = trained_with(**settings)
    config = read_yaml(EXP / "config.yaml")
    assert last_rate(config, EXP).value == last
    Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, "step": 2.0, "final_epochs": 1,
                                                   "control": False}))  # fmt: skip
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml",
                  "--search_config", "search.yaml", "--out", "out")  # fmt: skip
    assert done.status == 0, done.err
    start = read_yaml("out/round1/train.yaml")["optim_conf"]["lr"]
    assert start == pytest.approx(0.5 * last, rel=1e-6)
    assert f"retraining starts at {start:g} (0.5 times {last:g}" in done.out
    (EXP / "checkpoint.pth").unlink()
    assert last_rate(config, EXP).value == pytest.approx(last, rel=0.2)  # the last mean, rounded
    (EXP / "train.log").unlink()
    assert last_rate(config, EXP).value == pytest.approx(last, rel=0.02)


@pytest.mark.slow
def test_what_is_not_known_is_asked_for_and_may_be_given(recipe, shrink):
    config = {**read_yaml(EXP / "config.yaml"), "scheduler": "warmuplr", "scheduler_conf": {}}
    (EXP / "config.yaml").write_text(yaml.safe_dump(config))
    (EXP / "checkpoint.pth").write_bytes(b"damaged")
    Path("rounds.yaml").write_text(yaml.safe_dump(ROUNDS))
    command = ["compress", "exp/asr", "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml",
               "--out", "out"]  # fmt: skip
    done = shrink(*command)
    assert done.status == 2 and not Path("out").exists()
    line = done.err.splitlines()[-1]
    assert "exp/asr/config.yaml is not known" in line and "(warmuplr)" in line
    assert "give --learning_rate, or learning_rate in a rounds preset" in line
    short = {"learning_rate": 0.003, "step": 2.0, "final_epochs": 1, "control": False}
    Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, **short}))
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}))
    assert shrink(*command, "--search_config", "search.yaml").status == 0
    assert read_yaml("out/round1/train.yaml")["optim_conf"]["lr"] == 0.003


class Loud:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_with_objects_is_read_without_them(recipe):
    state = torch.load(EXP / "checkpoint.pth", weights_only=False)
    torch.save({"loud": Loud(), **state}, EXP / "checkpoint.pth")
    rate = last_rate(read_yaml(EXP / "config.yaml"), EXP)
    assert rate.value == 0.02 and "checkpoint.pth" in rate.source
    assert not Path("executed").exists()


def test_a_schedule_that_has_run_out_is_not_the_rate(recipe):
    state = torch.load(EXP / "checkpoint.pth", weights_only=False)
    state["optimizers"][0]["param_groups"][0]["lr"] = 0.0
    torch.save(state, EXP / "checkpoint.pth")
    (EXP / "train.log").write_text(
        "1epoch:train:1-9batch: optim0_lr0=0.004\n2epoch results: [train] optim0_lr0=3.1e-04, x=1\n"
    )
    rate = last_rate(read_yaml(EXP / "config.yaml"), EXP)
    assert rate.value == 3.1e-4 and "train.log" in rate.source


@pytest.mark.parametrize(("scheduler", "conf", "last"), [
    (None, {}, 0.1), ("steplr", {"step_size": 2, "gamma": 0.1}, 0.01),
    ("CosineAnnealingLR", {"T_max": 4}, 0.1 * 0.5 * (1 - 2**-0.5)),
    ("reducelronplateau", {}, None), ("warmuplr", {"warmup_steps": 9}, None),
])  # fmt: skip
def test_a_schedule_by_epochs_is_known_from_the_config(tmp_path, scheduler, conf, last):
    config = {"optim": "sgd", "optim_conf": {"lr": 0.1}, "scheduler": scheduler,
              "scheduler_conf": conf, "max_epoch": 4}  # fmt: skip
    rate = last_rate(config, tmp_path)
    assert rate is None if last is None else rate.value == pytest.approx(last)
