"""The checkpoint is the one that the config's own criterion names."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROUNDS, SEARCH

from espnet_shrink.compat.criterion import criteria, model_name
from espnet_shrink.compat.models import find_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError

EXP = Path("exp/asr")
DEFAULT = [["train", "loss", "min"], ["valid", "loss", "min"], ["train", "acc", "max"],
           ["valid", "acc", "max"]]  # fmt: skip


def by(criterion):
    config = {**read_yaml(EXP / "config.yaml"), "best_model_criterion": criterion}
    (EXP / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(("criterion", "names"), [
    (DEFAULT, ["valid.acc", "valid.loss", "train.loss", "train.acc"]),
    ([["valid", "cer_ctc", "min"]], ["valid.cer_ctc"]),
    ([["train", "loss", "min"], ["valid", "total_count", "max"]], ["valid.total_count",
                                                                  "train.loss"]),
    ([["valid/acc", 3, "max"]], ["valid.acc"]),
    (None, []), ("acc", []), ([[1, 2]], []),
])  # fmt: skip
def test_the_criterion_to_decode_with(criterion, names):
    assert criteria({"best_model_criterion": criterion}) == names
    assert (
        model_name({"best_model_criterion": criterion}) == f"{(names or ['valid.acc'])[0]}.ave.pth"
    )


@pytest.mark.slow
def test_rounds_and_control_are_chosen_as_their_base_was(recipe, shrink):
    """By loss; acc's files, which are another epoch's, lie beside."""
    for name in ("valid.loss.ave_2best.pth", "valid.loss.ave_1best.pth", "valid.loss.best.pth"):
        shutil.copy(EXP / "12epoch.pth", EXP / name)
    by([["valid", "loss", "min"]])
    assert find_model(EXP)[1].name == "valid.loss.ave_2best.pth"
    (EXP / "valid.loss.ave.pth").symlink_to("valid.loss.ave_1best.pth")
    Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, "step": 2.0, "final_epochs": 1}))
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}))
    command = ["compress", EXP, "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml",
               "--search_config", "search.yaml"]  # fmt: skip
    done = shrink(*command, "--out", "out")
    assert done.status == 0, done.err
    assert "model: exp/asr/valid.loss.ave.pth -> valid.loss.ave_1best.pth" in done.out
    for folder in ("round1", "control"):
        assert find_model(Path("out") / folder)[1].name == "valid.loss.ave.pth"
        assert not list((Path("out") / folder).glob("valid.acc.*"))
    assert "valid.loss.ave.pth" in Path("out/report.html").read_text()
    assert "valid.loss.ave.pth" in shrink("inspect", EXP).out

    done = shrink(*command, "--out", "untrained", "--no-retrain")
    assert done.status == 0, done.err
    assert Path("untrained/round1/valid.loss.ave.pth").is_file()


@pytest.mark.parametrize("verb", ["compress", "inspect"])
def test_a_link_to_nothing_is_refused_and_no_other_file_taken(recipe, shrink, verb):
    target = os.readlink(EXP / "valid.acc.ave.pth")
    (EXP / target).unlink()
    options = ["--data", "dump/raw/dev", "--out", "out"] if verb == "compress" else []
    done = shrink(verb, EXP, *options)
    assert done.status == 2 and not Path("out").exists()
    line = done.err.splitlines()[-1]
    assert f"exp/asr/valid.acc.ave.pth is a link to {target}, which is missing" in line
    with pytest.raises(ShrinkError, match="is a link to"):
        find_model(EXP, "valid.acc.ave.pth")
    assert find_model(EXP, "12epoch.pth")[1].name == "12epoch.pth"
