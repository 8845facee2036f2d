"""What a folder holds is what was asked for, told by content; what is finished is only read."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from conftest import SEARCH, arguments, made_once, one_core, run_cli, tree

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.digest import data_digest
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.training.request import INIT

DEV = Path("dump/raw/dev")
COMPRESS = ["compress", "exp/asr", "--data", DEV, "--target", "1.5x", "--out", "out",
            "--search_config", "search.yaml", "--rounds_config", "rounds.yaml"]  # fmt: skip
CONTROL = "control/.trained"


@pytest.fixture(scope="session")
def compressed_recipe(trained_recipe, tmp_path_factory):
    """The recipe with out/, compressed without retraining; not to be written to."""

    def make(root: Path) -> None:
        shutil.copytree(trained_recipe, root, symlinks=True)
        preset = {**SEARCH, "searcher": "uniform", "finalists": 1}
        (root / "search.yaml").write_text(yaml.safe_dump(preset))
        (root / "rounds.yaml").write_text(yaml.safe_dump({"epochs": 1, "final_epochs": 1}))
        with contextlib.chdir(root), one_core():
            assert run_cli([*COMPRESS, "--no-retrain"]) == 0

    return made_once("compressed", make, tmp_path_factory)


@pytest.fixture
def compressed(compressed_recipe, tmp_path, monkeypatch):
    """A copy of it, and the current folder."""
    copy = tmp_path / "compressed"
    shutil.copytree(compressed_recipe, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def refused(compressed, shrink):
    """Compress again, which must be refused in one line without a change; gives the line."""

    def call(*more: object) -> str:
        before = tree(compressed)
        ended = shrink(*COMPRESS, *more)
        assert ended.status == 2, ended
        assert len(ended.err.splitlines()) == 1, ended.err
        assert tree(compressed) == before
        return ended.err

    return call


@pytest.fixture
def idle(monkeypatch):
    """Nothing may be decoded."""

    def fail(self, *_):
        raise AssertionError("decoded")

    for name in ("hypotheses", "score", "score_all", "by_utterance"):
        monkeypatch.setattr(Scorer, name, fail)


def test_without_and_then_with_retraining_are_two_runs(refused):
    said = refused()
    assert "out holds a run with other settings (trainer was 'none', now 'espnet2')" in said


def edit_text():
    path = DEV / "text"
    path.write_text(path.read_text().replace("a", "b", 1))


def drop_an_utterance():
    for name in ("wav.scp", "text", "utt2spk"):
        lines = (DEV / name).read_text().splitlines(keepends=True)
        (DEV / name).write_text("".join(lines[1:]))


def change_audio():
    """Of the same length and size."""
    samples, rate = soundfile.read("wav/dev1-04.wav")
    soundfile.write("wav/dev1-04.wav", 0.5 * samples, rate)


def swap_audio():
    table = dict(line.split() for line in (DEV / "wav.scp").read_text().splitlines())
    first, second, *_ = table
    table[first], table[second] = table[second], table[first]
    (DEV / "wav.scp").write_text("".join(f"{key} {value}\n" for key, value in table.items()))


@pytest.mark.parametrize("change", [edit_text, drop_an_utterance, change_audio, swap_audio])
def test_data_that_changed_under_its_path_are_other_data(refused, change):
    change()
    assert "out holds a run whose data had another content: choose" in refused("--no-retrain")


def edit_proxy():
    path = Path("out/proxy/text")
    path.write_text(path.read_text().replace("a", "b", 1))
    return "the proxy set out/proxy was edited after it was chosen"


def other_checkpoint():
    path = Path("exp/asr/valid.acc.ave.pth")
    state = torch.load(path, weights_only=True)
    path.unlink()
    torch.save({name: value + 1e-3 for name, value in state.items()}, path)
    return "base_hash was"


def other_rate():
    config = read_yaml("exp/asr/config.yaml")
    config["optim_conf"]["lr"] = 0.5
    Path("exp/asr/config.yaml").write_text(yaml.safe_dump(config))
    return "whose training config had another content"


def other_epochs():
    Path("rounds.yaml").write_text(yaml.safe_dump({"epochs": 2, "final_epochs": 1}))
    return "epochs was 1, now 2"


def other_options():
    train = {"epochs": 1, "final_epochs": 1, "train": {"batch_size": 2}}
    Path("rounds.yaml").write_text(yaml.safe_dump(train))
    return "train.batch_size was None, now 2"


def edited_space():
    shutil.copy("out/round1/plan.yaml", "kept.yaml")
    assert (
        run_cli(["space", "--exp", "exp/asr", "--out", "out", "--search_config", "search.yaml"])
        == 0
    )
    space = read_yaml("out/space.yaml")
    space["sites"]["ctc.ctc_lo.weight"]["ranks"] = ["dense", "dense"]
    Path("out/space.yaml").write_text(yaml.safe_dump(space))
    return "space.ctc.ctc_lo.weight was [1, 'dense'], now ['dense', 'dense']"


def edited_round():
    path = Path("out/round1/round.yaml")
    path.write_text(yaml.safe_dump({**read_yaml(path), "target_compression": 3.0}))
    return "out/round1 holds a round with another goal (3.0, now 1.5)"


def edited_plan():
    path = Path("out/round1/plan.yaml")
    plan = read_yaml(path)
    plan["ranks"]["ctc.ctc_lo.weight"] = 1 if plan["ranks"]["ctc.ctc_lo.weight"] != 1 else 2
    path.write_text(yaml.safe_dump(plan))
    return "out/round1 holds a round with another plan"


def of_an_earlier_version():
    record = read_yaml("out/settings.yaml")
    del record["data_content"]
    Path("out/settings.yaml").write_text(yaml.safe_dump({**record, "data": str(DEV)}))
    return "made by an earlier version of espnet_shrink (its settings.yaml says nothing of data_"


def round_of_an_earlier_version():
    record = read_yaml("out/round1/round.yaml")
    del record["epochs"]
    Path("out/round1/round.yaml").write_text(yaml.safe_dump(record))
    return "out/round1/round.yaml is damaged, or of another version"


CHANGES = [edit_proxy, other_checkpoint, other_rate, other_epochs, other_options, edited_space,
           edited_round, edited_plan, of_an_earlier_version,
           round_of_an_earlier_version]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_result_is_held_against_the_folder(refused, change):
    said = change()
    assert said in refused("--no-retrain")


@pytest.mark.parametrize("target", ["1.4x", "1.6x"])
def test_another_target_larger_or_smaller_is_another_run(refused, target):
    assert "target was 1.5" in refused("--no-retrain", "--target", target)


def moved(compressed):
    shutil.move("dump", "elsewhere")
    return Path("elsewhere/raw/dev")


def by_its_absolute_path(compressed):
    return compressed / DEV


def by_a_link(compressed):
    Path("link").mkdir()
    os.symlink(compressed / DEV, "link/dev")
    return Path("link/dev")


def without_its_audio(compressed):
    shutil.rmtree("wav")
    return DEV


@pytest.mark.parametrize("where", [moved, by_its_absolute_path, by_a_link, without_its_audio])
def test_a_finished_run_is_only_read_wherever_its_data_are(compressed, shrink, idle, where):
    kept = {p: v for p, v in tree(Path("out")).items() if "round" in p or "proxy" in p}
    ended = shrink(*COMPRESS, "--data", where(compressed), "--no-retrain", "--ngpu", 3)
    assert ended.status == 0, ended.err
    after = tree(Path("out"))
    assert {path: after[path] for path in kept} == kept


def test_another_espnet_is_told(compressed, shrink, idle):
    record = read_yaml("out/settings.yaml")
    record["made_with"]["espnet"] = "202301"
    Path("out/settings.yaml").write_text(yaml.safe_dump(record))
    ended = shrink(*COMPRESS, "--no-retrain")
    assert ended.status == 0 and "out was begun with espnet 202301; this is" in ended.out


def test_finished_rounds_need_neither_audio_nor_training_data(finished, shrink, idle):
    shutil.rmtree("wav")
    shutil.rmtree("stats")
    for verb in ("proxy", "search", "rounds"):
        before = tree(finished)
        ended = shrink(*arguments(verb))
        assert ended.status == 0, ended.err
        assert tree(finished) == before
        assert "training" not in ended.err and "baseline:" not in ended.out


def test_a_mark_of_another_training_is_refused(finished, shrink):
    mark = read_yaml(Path("small") / CONTROL)
    Path("small", CONTROL).write_text(yaml.safe_dump({**mark, "epochs": 1}))
    ended = shrink(*arguments("rounds"))
    assert ended.status == 2
    assert "small/control holds a training of 1 epochs, but now 3 are wanted" in ended.err
    Path("small", CONTROL).write_text(yaml.safe_dump({**mark, "init": "0" * 16}))
    assert "a model with other ranks" in shrink(*arguments("rounds")).err
    Path("small", CONTROL).write_text("3 epochs\n")
    assert "small/control was trained by an earlier version" in shrink(*arguments("rounds")).err
    assert Path("small/control", INIT).exists()


def test_a_digest_is_of_order_names_texts_and_audio(recipe):
    whole = data_digest(DEV)
    words, audio = whole.split(":")
    edit_text()
    assert data_digest(DEV).split(":")[0] != words and data_digest(DEV).split(":")[1] == audio
    change_audio()
    assert data_digest(DEV).split(":")[1] != audio
    shutil.rmtree("wav")
    assert data_digest(DEV) != whole and data_digest(DEV, whole).split(":")[1] == audio
