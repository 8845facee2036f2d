"""A method of one's own, one file and one entry, goes all the way."""

import json
import zipfile
from pathlib import Path

import pytest
import toy_method
import yaml

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.adapter import adapter_conf, steps_of
from espnet_shrink.methods.registry import METHODS, method_of
from espnet_shrink.plan import DENSE, Plan, Step

# What a package of its own would do; here for the processes that train.
ENTRY = """\
import wrapt

def enter(registry):
    import toy_method
    registry.METHODS["toy"] = toy_method.Toy

wrapt.register_post_import_hook(enter, "espnet_shrink.methods.registry")
"""


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "toy", toy_method.Toy)
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(ENTRY)
    tests = Path(toy_method.__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{tests}")


def test_a_toy_is_surveyed_searched_built_trained_packed_and_reported(recipe, toy, shrink):
    search = {"method": "toy", "searcher": "random", "evaluations": 6, "min_rank": 1,
              "finalists": 2, "decomposition": "plain"}  # fmt: skip
    rounds = {"step": 1.04, "epochs": 1, "final_epochs": 1, "control": False,
              "wer_limit_absolute": 1000.0}  # fmt: skip
    Path("search.yaml").write_text(yaml.safe_dump(search))
    Path("rounds.yaml").write_text(yaml.safe_dump(rounds))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--train", "dump/raw/train",
                  "--target", "1.05x", "--search_config", "search.yaml", "--rounds_config",
                  "rounds.yaml", "--out", "out")  # fmt: skip
    assert done.status == 0, done.err
    final = load_model(*find_model("out/round2"))
    layers = [m for m in final.model.modules() if isinstance(m, toy_method.FirstColumns)]
    (step,) = steps_of(read_yaml("out/round2/config.yaml")["adapter_conf"])
    assert step.method == "toy" and len(step.plan.factored) == len(layers) > 0
    assert sorted(step.plan.factored.values()) == sorted(m.columns for m in layers)
    assert read_yaml("out/round2/plan.yaml")["method"] == "toy"
    assert Plan.load("out/round2/plan.yaml") == step.plan
    results = json.loads(Path("out/results.json").read_text())
    full = sum(p.numel() for p in load_model(*find_model("exp/asr")).model.parameters())
    params = sum(p.numel() for p in final.model.parameters())
    (size,) = results["sizes"]
    assert full / params >= 1.05 and size["final"]["params"] == params
    assert f"{full / params:.2f}" in Path("out/RESULTS.md").read_text()
    (archive,) = Path("out").glob("*.zip")
    assert "README.md" in zipfile.ZipFile(archive).namelist()


def test_steps_of_several_methods_are_read_and_bad_ones_refused():
    plan = Plan({"a": 3, "b": DENSE})
    assert steps_of(adapter_conf(plan, "hash")) == [Step("lowrank", plan)]
    assert steps_of(adapter_conf(plan, "hash", "toy")) == [Step("toy", plan)]
    assert adapter_conf(plan, "hash") == {"base_hash": "hash", "ranks": {"a": 3, "b": DENSE}}
    steps = [{"ranks": {"a": 1}}, {"method": "toy", "amounts": {"a": 2}}]
    both = {"base_hash": "h", "steps": steps}
    assert [step.method for step in steps_of(both)] == ["lowrank", "toy"]
    half = {"method": "toy"}
    for bad in (
        {}, {"ranks": {}}, {"base_hash": "h", "ranks": 3}, {"base_hash": "h", "steps": {}},
        {"base_hash": "h", "steps": [1]}, {"base_hash": "h", "steps": [half]},
    ):  # fmt: skip
        with pytest.raises(ShrinkError, match="adapter_conf"):
            steps_of(bad)


def test_an_unknown_method_is_refused_with_those_there_are(recipe, shrink):
    with pytest.raises(ShrinkError, match="unknown method toy: choose of lowrank"):
        method_of("toy")
    Path("search.yaml").write_text("method: toy\n")
    done = shrink("space", "--exp", "exp/asr", "--search_config", "search.yaml", "--out", "small")
    assert done.status == 2 and done.err.count("\n") == 1 and "unknown method toy" in done.err
