"""Rounds with ESPnet's own trainer: what they leave, resuming after kill -9, rolling back."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ENVIRONMENT, ROUNDS, arguments, one_core, tree

from espnet_shrink.compat.models import load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import model_hash
from espnet_shrink.data.features import extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.rounds import RoundsSettings, next_goal, run_rounds
from espnet_shrink.plan import Plan
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.training.espnet2 import leave_untrained, retrain
from espnet_shrink.training.request import TrainingRequest

OUT = Path("small")


def parameters(folder: Path) -> int:
    loaded = load_model(folder / "config.yaml", folder / "valid.acc.ave.pth")
    return sum(p.numel() for p in loaded.model.parameters())


def test_every_round_is_an_espnet_experiment_with_its_plan(finished):
    base_hash = model_hash(open_baseline("exp/asr").model)
    for number in (1, 2):
        folder = OUT / f"round{number}"
        plan, config = Plan.load(folder / "plan.yaml"), read_yaml(folder / "config.yaml")
        assert config["adapter_conf"] == {"base_hash": base_hash, "ranks": plan.ranks}
        assert (config["use_adapter"], config["adapter"]) == (True, "espnet_shrink")
        loaded = load_model(folder / "config.yaml", folder / "valid.acc.ave.pth")
        assert plan_of(loaded.model) == plan
        record = read_yaml(folder / "round.yaml")
        assert record["ranks"] == plan.ranks and record["status"] == "accepted"
        score = Scorer(loaded, extract(loaded, "dump/raw/dev")).score()
        assert record["dev"] == {"wer": score.wer, "cer": score.cer, "metric": "wer"}
    assert Plan.load(OUT / "round1/plan.yaml").ranks == Plan.load(OUT / "search/plan.yaml").ranks


def test_rounds_go_on_to_the_target_counting_every_parameter(finished):
    full = sum(p.numel() for p in open_baseline("exp/asr").model.parameters())
    summary = read_yaml(OUT / "rounds.yaml")
    assert (summary["final"], summary["rounds"], summary["reached_target"]) == (2, 2, True)
    assert summary["baseline"]["params"] == full
    for number, goal in ((1, math.sqrt(1.6)), (2, 1.6)):
        record = read_yaml(OUT / f"round{number}" / "round.yaml")
        assert record["params"] == parameters(OUT / f"round{number}")
        assert record["compression"] == pytest.approx(full / record["params"])
        assert record["target_compression"] == pytest.approx(goal)
        assert record["compression"] >= goal * 0.9999


def test_a_later_round_starts_from_the_retrained_model_of_the_one_before(finished):
    """Its search knew the folded weights, and its trainer was given their factors."""
    before = load_model(OUT / "round1/config.yaml", OUT / "round1/valid.acc.ave.pth")
    start = torch.load(OUT / "round2/init.pth", weights_only=True)
    now = before.model.state_dict()
    shared = [n for n in start.keys() & now.keys() if not n.endswith(("_U", "_V", "U.weight",
                                                                       "V.weight"))]  # fmt: skip
    assert len(shared) > 10
    assert all(torch.equal(start[name], now[name]) for name in shared)
    searched = read_yaml(OUT / "round2/search/settings.yaml")["base_hash"]
    assert searched != model_hash(open_baseline("exp/asr").model)


def test_the_control_is_the_baseline_with_the_rounds_epochs(finished):
    config = read_yaml(OUT / "control/config.yaml")
    assert config["max_epoch"] == ROUNDS["epochs"] + ROUNDS["final_epochs"]
    assert not config["use_adapter"]
    start = torch.load(OUT / "control/init.pth", weights_only=True)
    own = open_baseline("exp/asr").model.state_dict()
    assert all(torch.equal(start[name], own[name]) for name in own)
    trained = open_baseline(OUT / "control").model.state_dict()
    assert any(not torch.equal(start[name], trained[name]) for name in own)


def test_rounds_with_other_settings_in_the_same_folder_are_refused(finished, shrink):
    before = tree(OUT)
    state = open_baseline("exp/asr").model.state_dict()
    torch.save({name: value + 1 for name, value in state.items()}, "exp/asr/other.pth")
    for option, named in (
        (["--seed", 9], "with other settings (search.seed was 3, now 9)"),
        (["--target", 1.5], "with other settings (target was 1.6, now 1.5)"),
        (["--data", "dump/raw/test"], "whose data had another content"),
        (["--train", "dump/raw/dev"], "whose training data had another content"),
        (["--proxy", "dump/raw/test"], "whose proxy set had another content"),
        (["--checkpoint", "other.pth"], "base_hash was"),
    ):
        ended = shrink(*arguments("rounds"), *option)
        assert ended.status == 2
        assert f"small holds a run {named}" in ended.err.splitlines()[-1] or (
            named == "base_hash was" and named in ended.err
        )
        assert len(ended.err.splitlines()) == 1
    assert tree(OUT) == before


def wait_for(path: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.002)


def kill_when(appears: Path, log: Path) -> None:
    """Start the rounds, and kill -9 them as soon as a file appears."""
    with log.open("wb") as sink, one_core():
        process = subprocess.Popen(
            [sys.executable, "-m", "espnet_shrink.cli", *arguments("rounds")],
            env=ENVIRONMENT, stdout=sink, stderr=sink,
        )  # fmt: skip
    try:
        wait_for(appears, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def at_work_in(folder: Path) -> list[str]:
    """Processes whose current folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").resolve() == folder and process.name != str(os.getpid()):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_killed_rounds_end_as_if_they_had_not_been_killed(finished, shrink):
    """Killed in the second round's search, then in its retraining, then left to finish."""
    second, expected = OUT / "round2", Path("expected")
    second.rename(expected)
    (OUT / "rounds.yaml").unlink()
    kill_when(second / "search/log.csv", Path("1.log"))
    assert not (second / "search/plan.yaml").exists()
    kill_when(second / "1epoch.pth", Path("2.log"))
    assert (second / "search/plan.yaml").exists() and not (second / ".trained").exists()
    limit = time.monotonic() + 10  # the trainer dies with its parent, not long after
    while at_work_in(finished) and time.monotonic() < limit:
        time.sleep(0.05)
    assert at_work_in(finished) == []
    with one_core():
        ended = shrink(*arguments("rounds"))
    assert ended.status == 0, ended.err
    for name in ("search/plan.yaml", "search/log.csv", "plan.yaml", "round.yaml"):
        assert (second / name).read_text() == (expected / name).read_text(), name
    found, wanted = (torch.load(f / "valid.acc.ave.pth") for f in (second, expected))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)


@pytest.fixture
def faultless(recipe):
    """The model without its decoder, and dev texts that are just what its CTC head hears."""
    config = read_yaml("exp/asr/config.yaml")
    config["model_conf"]["ctc_weight"] = 1.0
    Path("exp/asr/config.yaml").write_text(yaml.safe_dump(config))
    state = torch.load("exp/asr/valid.acc.ave.pth", weights_only=True)
    Path("exp/asr/valid.acc.ave.pth").unlink()
    torch.save({name: value for name, value in state.items() if not name.startswith("decoder.")},
               "exp/asr/valid.acc.ave.pth")  # fmt: skip
    dev = extract(open_baseline("exp/asr"), "dump/raw/dev")
    (heard,) = Scorer(open_baseline("exp/asr"), dev).hypotheses().values()
    assert all(text.strip() for text in heard) and len(set(heard)) > 6
    lines = [f"{u.name} {text}\n" for u, text in zip(dev.utterances, heard, strict=True)]
    Path("dump/raw/dev/text").write_text("".join(lines))
    return recipe


def test_rounds_that_lose_too_much_are_rolled_back_with_milder_steps(faultless, shrink):
    """No loss is allowed, and no learning either: nothing can make up for the lost ranks."""
    Path("rounds.yaml").write_text(yaml.safe_dump({
        "target": 3.61, "step": 4.0, "epochs": 1, "final_epochs": 1, "rollbacks": 1,
        "learning_rate_factor": 1e-9, "wer_limit_relative": 0.0, "wer_limit_absolute": 0.0,
    }))  # fmt: skip
    Path("search.yaml").write_text(yaml.safe_dump({"searcher": "uniform", "min_rank": 1}))
    command = ["rounds", "--exp", "exp/asr", "--out", OUT, "--proxy", "dump/raw/test", "--data",
               "dump/raw/dev", "--rounds_config", "rounds.yaml", "--search_config",
               "search.yaml"]  # fmt: skip
    ended = shrink(*command)
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith(
        "espnet-shrink rounds: no round kept dev WER within its limit"
    )
    records = [read_yaml(OUT / f"round{n}" / "round.yaml") for n in (1, 2)]
    assert [r["status"] for r in records] == ["rolled_back"] * 2
    assert [r["dev_wer_limit"] for r in records] == [0.0] * 2
    assert all(r["dev"]["wer"] > r["dev_wer_limit"] for r in records)
    assert records[0]["target_compression"] == pytest.approx(3.61)
    assert records[1]["target_compression"] == pytest.approx(1.9)
    assert not (OUT / "round3").exists() and not (OUT / "control").exists()
    summary = read_yaml(OUT / "rounds.yaml")
    assert (summary["final"], summary["reached_target"], summary["rounds"]) == (None, False, 2)
    before = tree(OUT)
    again = shrink(*command)  # nothing is done twice
    assert (again.status, tree(OUT)) == (2, before)


def test_a_frontend_that_is_trained_along_counts_in_every_round(baseline, shrink):
    """Its features of before the retraining would score another model."""
    assert shrink(*arguments("proxy")).status == 0
    dev = extract(baseline, "dump/raw/dev")

    def retrain_frontend(request):
        flipped = request.state["frontend.logmel.melmat"].flip(1)
        state = {**request.state, "frontend.logmel.melmat": flipped}
        leave_untrained(request.base_config, state, request.exp, request.changes)

    settings = RoundsSettings(target=1.5, control=False, wer_limit_absolute=1000.0)
    search = SearchSettings(searcher="uniform", min_rank=1)
    outcome = run_rounds(
        baseline, OUT / "proxy", Path("dump/raw/dev"), OUT, settings, search,
        retrain=retrain_frontend,
    )  # fmt: skip
    loaded = load_model(OUT / "round1/config.yaml", OUT / "round1/valid.acc.ave.pth")
    score = Scorer(loaded, extract(loaded, "dump/raw/dev")).score()
    assert outcome.rounds[0].dev == {"wer": score.wer, "cer": score.cer, "metric": "wer"}
    assert score != Scorer(loaded, dev).score()


@pytest.mark.parametrize(
    ("now", "step", "target", "goal"),
    [
        (1.0, 2.3, 5.0, math.sqrt(5.0)),
        (math.sqrt(5.0), 2.3, 5.0, 5.0),
        (1.0, 5.0, 5.0, 5.0),
        (1.0, 10.0, 5.0, 5.0),
        (1.0, 2.0, 8.0, 2.0),
        (4.0, 2.0, 8.0, 8.0),
        (1.0, 1.9, 8.0, 8.0**0.25),
    ],
)
def test_steps_are_equal_none_above_the_limit_and_end_at_the_target(now, step, target, goal):
    assert next_goal(now, step, target) == pytest.approx(goal)


def test_any_step_reaches_the_target():
    for target in (1.01, 2.0, 7.3, 40.0):
        for step in (1.005, 1.5, 2.3, 50.0):
            now, rounds = 1.0, 0
            while now < target * (1 - 1e-6):
                goal = next_goal(now, step, target)
                assert now < goal <= now * step * (1 + 1e-9)
                now, rounds = goal, rounds + 1
            assert rounds == math.ceil(math.log(target) / math.log(step) - 1e-9)


def test_a_failed_training_names_its_log_and_its_last_line(recipe):
    state = open_baseline("exp/asr").model.state_dict()
    config = {**read_yaml("exp/asr/config.yaml"), "optim": "no_such_optimizer"}
    with pytest.raises(ShrinkError, match=r"training in new failed \(.+\): see new/train.log"):
        retrain(TrainingRequest(config, state, Path("new"), 1, 0.5))
    assert "no_such_optimizer" in Path("new/train.log").read_text()
    assert not Path("new/.trained").exists()


IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture
def may_mount():
    """Skip where a user may not mount a small disk, as in many containers."""
    mount = [*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk here")


@pytest.mark.slow
def test_a_training_whose_disk_is_full_says_so_and_goes_on_when_there_is_space(recipe, may_mount):
    Path("retrain.py").write_text(
        "from pathlib import Path\n"
        "from espnet_shrink.core.files import read_yaml\n"
        "from espnet_shrink.pipeline.opening import open_baseline\n"
        "from espnet_shrink.training.espnet2 import retrain\n"
        "state = open_baseline('exp/asr').model.state_dict()\n"
        "from espnet_shrink.training.request import TrainingRequest\n"
        "config = read_yaml('exp/asr/config.yaml')\n"
        "retrain(TrainingRequest(config, state, Path('new'), 1, 0.5))\n"
    )
    size = 2 * Path("exp/asr/valid.acc.ave.pth").stat().st_size + 2**16
    script = f"""
        mkdir new && mount -t tmpfs -o size={size} tmpfs new
        {sys.executable} retrain.py; echo first $?
        mount -o remount,size=64m new
        {sys.executable} retrain.py; echo second $?
        ls -A new
    """
    ended = subprocess.run(
        [*IN_A_NAMESPACE, "sh", "-c", script], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert "first 1" in ended.stdout and "MiB left: free some and run again" in ended.stderr
    assert "second 0" in ended.stdout and ".trained" in ended.stdout.split()


def test_the_last_round_retrains_longer():
    settings = RoundsSettings(target=5.0, epochs=2, final_epochs=7)
    assert [settings.epochs_for(goal) for goal in (2.236, 4.99, 5.0 - 1e-9, 5.0)] == [2, 2, 7, 7]


def test_the_first_goal_is_where_the_first_round_aims():
    assert RoundsSettings(target=5.0, step=2.3).first_goal() == pytest.approx(math.sqrt(5.0))
