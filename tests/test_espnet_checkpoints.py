"""A checkpoint that does not fit its config is an error, never a silently random model."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from espnet_shrink.compat.models import load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError


def by_us(config, checkpoint):
    load_model(config, checkpoint)


def by_build_model_from_file(config, checkpoint):
    from espnet2.tasks.asr import ASRTask

    ASRTask.build_model_from_file(str(config), str(checkpoint))


def by_speech2text(config, checkpoint):
    from espnet2.bin.asr_inference import Speech2Text

    Speech2Text(str(config), str(checkpoint))


every_way = pytest.mark.parametrize("load", [by_us, by_build_model_from_file, by_speech2text])


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refusal(load, config, checkpoint) -> str:
    with pytest.raises(ShrinkError) as caught:
        load(config, checkpoint)
    message = str(caught.value)
    assert "\n" not in message
    return message


def first_of(names: set[str]) -> str:
    """The first six, and how many more there are."""
    return ", ".join(sorted(names)[:6]) + f", and {len(names) - 6} more"


@every_way
def test_a_factored_checkpoint_with_the_plain_config_names_the_keys(baseline, small, load):
    message = refusal(load, baseline.config, small.checkpoint)
    plain, factored = set(baseline.model.state_dict()), set(small.model.state_dict())
    assert f"missing keys: {first_of(plain - factored)}" in message
    assert f"unexpected keys: {first_of(factored - plain)}" in message
    assert any("birnn" in name for name in factored - plain)


@every_way
def test_a_plain_checkpoint_with_the_factored_config_names_the_keys(baseline, small, load):
    message = refusal(load, small.config, baseline.checkpoint)
    plain, factored = set(baseline.model.state_dict()), set(small.model.state_dict())
    assert f"missing keys: {first_of(factored - plain)}" in message
    assert f"unexpected keys: {first_of(plain - factored)}" in message


@every_way
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_pickled_object_is_never_executed(small, recipe, load, kind):
    """In both of torch's file formats; the file it would create does not appear."""
    proof, path = recipe / "executed", recipe / "model.pth"
    torch.save({"encoder": Touch(proof)}, path, _use_new_zipfile_serialization=kind == "zip")
    message = refusal(load, small.config, path)
    assert "pickled objects" in message and "model.pth" in message
    assert not proof.exists()


def test_a_bare_pickle_is_never_executed(baseline, recipe):
    proof, path = recipe / "executed", recipe / "model.pth"
    path.write_bytes(pickle.dumps(Touch(proof)))
    assert "model.pth" in refusal(by_us, baseline.config, path)
    assert not proof.exists()


@every_way
def test_a_truncated_checkpoint_is_refused(small, recipe, load):
    content = small.checkpoint.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        (recipe / "model.pth").write_bytes(content[:size])
        message = refusal(load, small.config, recipe / "model.pth")
        assert "model.pth" in message


def test_a_damaged_checkpoint_is_refused(baseline, recipe):
    """A zip whose pickle is gone."""
    buffer = io.BytesIO(baseline.checkpoint.read_bytes())
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(recipe / "model.pth", "w") as new:
        for name in old.namelist():
            if not name.endswith("data.pkl"):
                new.writestr(name, old.read(name))
    assert "model.pth" in refusal(by_us, baseline.config, recipe / "model.pth")


def test_a_whole_training_state_is_no_model(baseline):
    state = {"model": torch.load(baseline.checkpoint, weights_only=True), "epoch": 3}
    torch.save(state, "model.pth")
    assert "not a model's state dict" in refusal(by_us, baseline.config, "model.pth")


def test_a_checkpoint_of_another_model_is_refused(baseline):
    """Other names, other shapes, and a key too few or too many."""
    state = torch.load(baseline.checkpoint, weights_only=True)
    first = next(iter(state))
    others = {
        "names": {f"other.{name}": value for name, value in state.items()},
        "shapes": {name: value.repeat_interleave(2, 0) if value.dim() else value
                   for name, value in state.items()},
        "fewer": {name: value for name, value in state.items() if name != first},
        "more": {**state, "extra.weight": torch.zeros(2)},
    }  # fmt: skip
    for other in others.values():
        torch.save(other, "model.pth")
        message = refusal(by_us, baseline.config, "model.pth")
        assert "does not fit" in message
    assert "extra.weight" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ranks": {"no.such.weight": 3}}, "no.such.weight"),
        ({"ranks": {}}, "gives no rank for"),
        ({"base_hash": None}, "needs exactly base_hash and ranks"),
        ({"more": 1}, "needs exactly base_hash and ranks"),
        ({"ranks": "all"}, "needs exactly base_hash and ranks"),
    ],
)
@every_way
def test_an_adapter_conf_that_does_not_fit_is_refused(small, load, change, named):
    config = read_yaml(small.config)
    conf = {**config["adapter_conf"], **change}
    if change.get("ranks") and isinstance(change["ranks"], dict):
        conf["ranks"] = {**config["adapter_conf"]["ranks"], **change["ranks"]}
    conf = {key: value for key, value in conf.items() if value is not None}
    Path("bad.yaml").write_text(yaml.safe_dump({**config, "adapter_conf": conf}))
    assert named in refusal(load, "bad.yaml", small.checkpoint)


@pytest.mark.parametrize("rank", [0, -1, 10_000, 2.5, True, "dens", None])
def test_an_adapter_conf_with_a_rank_out_of_range_is_refused(small, rank):
    config = read_yaml(small.config)
    site = next(iter(small.model.shrink_plan.factored))
    config["adapter_conf"]["ranks"][site] = rank
    Path("bad.yaml").write_text(yaml.safe_dump(config))
    message = refusal(by_us, "bad.yaml", small.checkpoint)
    assert repr(rank) in message and site in message


def test_configs_that_are_no_asr_config_are_refused(baseline):
    for content in ("", "- a\n", "a: [\n", "lm: transformer\n", "\x00"):
        Path("bad.yaml").write_text(content)
        assert "bad.yaml" in refusal(by_us, "bad.yaml", baseline.checkpoint)


def test_a_config_that_names_a_missing_file_says_which(baseline):
    config = {**read_yaml(baseline.config), "normalize": "global_mvn",
              "normalize_conf": {"stats_file": "exp/no_stats.npz"}}  # fmt: skip
    Path("bad.yaml").write_text(yaml.safe_dump(config))
    message = refusal(by_us, "bad.yaml", baseline.checkpoint)
    assert "exp/no_stats.npz" in message and "relative to the recipe folder" in message


def test_checkpoints_of_other_layouts_still_load(baseline, recipe):
    """ESPnet's DeepSpeed wrapping, and a checkpoint reached through a link."""
    state = torch.load(baseline.checkpoint, weights_only=True)
    torch.save({"module": state}, "wrapped.pth")
    (recipe / "link.pth").symlink_to("wrapped.pth")
    shutil.copy(baseline.config, "copy.yaml")
    for name in ("wrapped.pth", "link.pth"):
        found = load_model("copy.yaml", name).model.state_dict()
        assert all(torch.equal(found[key], state[key]) for key in state)
