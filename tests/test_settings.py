"""Settings from dataclass defaults, presets and the command line."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.settings import load_settings, settings_from
from espnet_shrink.errors import ShrinkError
from espnet_shrink.pipeline.rounds import RoundsSettings, next_goal
from espnet_shrink.search.settings import SearchSettings

ROOT = Path(__file__).parent.parent
PRESETS = {"search": SearchSettings, "rounds": RoundsSettings}


@dataclass(frozen=True)
class Example:
    count: int = 3
    rate: float = 0.5
    name: str = "a"
    on: bool = False
    more: dict[str, Any] = field(default_factory=dict)


def test_an_unknown_key_is_named_with_the_keys_there_are():
    with pytest.raises(ShrinkError, match="x.yaml: unknown setting cuont: choose of count, rate"):
        settings_from(Example, {"cuont": 3}, "x.yaml")
    with pytest.raises(ShrinkError, match="unknown setting 3"):
        settings_from(Example, {3: 3}, "x.yaml")


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("count", True, "int"),
        ("count", 3.0, "int"),
        ("count", "3", "int"),
        ("count", None, "int"),
        ("rate", "0.5", "float"),
        ("rate", True, "float"),
        ("rate", [0.5], "float"),
        ("name", 3, "str"),
        ("on", 1, "bool"),
        ("on", "yes", "bool"),
        ("more", [], "dict"),
    ],
)
def test_a_wrong_type_is_one_line_with_key_value_and_type(key, value, kind):
    with pytest.raises(ShrinkError) as caught:
        settings_from(Example, {key: value}, "x.yaml")
    assert str(caught.value) == f"x.yaml: {key} is {value!r}, but must be {kind}"


def test_right_types_are_taken_and_an_int_will_do_for_a_float():
    values = {"count": 7, "rate": 2, "name": "b", "on": True, "more": {"a": 1}}
    made = settings_from(Example, values, "x.yaml")
    assert made == Example(7, 2.0, "b", True, {"a": 1}) and type(made.rate) is float


def test_command_line_overrides_preset_overrides_default(tmp_path):
    path = tmp_path / "preset.yaml"
    path.write_text("count: 5\nrate: 2.0\n")
    assert load_settings(Example, None, {"name": None}) == Example()
    assert load_settings(Example, path, {"rate": 3.0, "name": None}) == Example(5, 3.0)
    with pytest.raises(ShrinkError, match="no such file: .*nowhere.yaml"):
        load_settings(Example, tmp_path / "nowhere.yaml", {})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_the_defaults(name):
    path = ROOT / "conf" / f"{name}.yaml"
    cls = PRESETS[name]
    assert load_settings(cls, path, {}) == cls()
    assert set(read_yaml(path)) == {f.name for f in dataclasses.fields(cls)}


@pytest.mark.parametrize("name", PRESETS)
def test_every_key_of_a_preset_carries_a_comment_with_its_type(name):
    lines = (ROOT / "conf" / f"{name}.yaml").read_text().splitlines()
    keys = [line for line in lines if re.match(r"\w+:", line)]
    hints = {f.name: str(f.type).split("[")[0] for f in dataclasses.fields(PRESETS[name])}
    assert {line.split(":")[0] for line in keys} == hints.keys()
    for line in keys:
        assert re.search(r"# *\w", line), line


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_of_the_recipe_are_accepted(name):
    load_settings(PRESETS[name], ROOT / f"egs2/librispeech/asr_shrink/conf/{name}.yaml", {})


@pytest.mark.parametrize(
    "bad",
    [
        {"searcher": "greedy"},
        {"reward": "tough"},
        {"decomposition": "whitend"},
        {"evaluations": 0},
        {"min_rank": 0},
        {"rollouts": 1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_search_settings_out_of_range_are_one_line_that_names_the_key(bad):
    with pytest.raises(ShrinkError) as caught:
        settings_from(SearchSettings, bad, "x.yaml")
    assert next(iter(bad)) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"target": 1.0},
        {"target": 0.5},
        {"step": 1},
        {"epochs": 0},
        {"final_epochs": 0},
        {"learning_rate_factor": 0.0},
        {"rollbacks": -1},
    ],
)
def test_rounds_settings_out_of_range_are_one_line_that_names_the_key(bad):
    with pytest.raises(ShrinkError) as caught:
        settings_from(RoundsSettings, bad, "x.yaml")
    assert next(iter(bad)) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [1.1, 2.3, 2.31, 5.0, 5.29, 11.7])
def test_goals_rise_by_equal_steps_to_the_target(target):
    goals = [1.0]
    while goals[-1] < target * (1 - 1e-6):
        goals.append(next_goal(goals[-1], 2.3, target))
        assert len(goals) < 10
    steps = [after / before for before, after in zip(goals, goals[1:], strict=False)]
    assert goals[-1] == pytest.approx(target)
    assert max(steps) <= 2.3 * (1 + 1e-6) and max(steps) == pytest.approx(min(steps))
