"""A plain ESPnet model made of a compressed one: no plugin, the same hypotheses."""

import json
from pathlib import Path

import pytest
import torch
from conftest import python, tree
from families import CONFORMER, compressed_model
from test_espnet_plugin import DECODE, UTTERANCES, texts
from toy import close

from espnet_shrink.core.files import read_yaml

WITHOUT_THE_PLUGIN = "import sys\nsys.modules['espnet_shrink'] = None\n" + DECODE.replace(
    "import espnet_shrink\n", ""
)


def export(shrink, exp, out):
    return shrink("export", "--exp", exp, "--dense", "--out", out)


def test_a_fresh_python_without_the_plugin_decodes_the_same(small, shrink):
    assert export(shrink, "exp/small", "exp/dense").status == 0
    assert "import espnet_shrink" not in WITHOUT_THE_PLUGIN
    done = python("-c", WITHOUT_THE_PLUGIN, "exp/dense/config.yaml",
                  "exp/dense/valid.acc.ave.pth", *UTTERANCES, cwd=Path.cwd())  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("FOUND ")[1])
    assert found == texts(small.config, small.checkpoint)
    assert len(set(found)) == len(UTTERANCES)


def test_the_compressed_model_itself_cannot_be_loaded_so(small):
    """What the plain copy is for."""
    done = python("-c", WITHOUT_THE_PLUGIN, small.config, small.checkpoint, UTTERANCES[0],
                  cwd=Path.cwd())  # fmt: skip
    assert done.returncode != 0


def test_config_and_checkpoint_are_those_of_an_uncompressed_model(small, baseline, shrink):
    assert export(shrink, "exp/small", "exp/dense").status == 0
    config = read_yaml("exp/dense/config.yaml")
    assert not config.keys() & {"use_adapter", "adapter", "adapter_conf"}
    assert config == {key: value for key, value in read_yaml(small.config).items() if key in config}
    state = torch.load("exp/dense/valid.acc.ave.pth", weights_only=True)
    wanted = baseline.model.state_dict()
    assert {n: x.shape for n, x in state.items()} == {n: x.shape for n, x in wanted.items()}
    own = small.model.state_dict()
    site = "encoder.enc.0.birnn0.weight_hh_l0"
    close(state[site], own[f"{site}_U"] @ own[f"{site}_V"])


def test_a_conformer_is_multiplied_out_as_well(tmp_path, shrink):
    from espnet2.tasks.asr import ASRTask

    small = compressed_model(tmp_path, CONFORMER)
    assert export(shrink, tmp_path / "small", tmp_path / "dense").status == 0
    plain, _ = ASRTask.build_model_from_file(
        tmp_path / "dense/config.yaml", tmp_path / "dense/valid.acc.ave.pth"
    )
    features = torch.randn(1, 50, 20)
    with torch.no_grad():
        found, expected = (
            model.eval().encoder(features, torch.tensor([50]))[0] for model in (plain, small.model)
        )
    close(found, expected, 1e-4)


def test_a_second_export_changes_no_file_and_another_checkpoint_is_refused(small, shrink):
    assert export(shrink, "exp/small", "exp/dense").status == 0
    before = tree(Path("exp/dense"))
    assert export(shrink, "exp/small", "exp/dense").status == 0
    state = torch.load(small.checkpoint, weights_only=True)
    torch.save({name: x + 1 for name, x in state.items()}, small.checkpoint)
    ended = export(shrink, "exp/small", "exp/dense")
    assert ended.status == 2 and "exp/dense holds a run with other settings" in ended.err
    assert tree(Path("exp/dense")) == before


def test_an_export_that_was_cut_off_goes_on(small, shrink):
    assert export(shrink, "exp/small", "exp/dense").status == 0
    Path("exp/dense/config.yaml").unlink()
    assert export(shrink, "exp/small", "exp/dense").status == 0
    assert Path("exp/dense/config.yaml").exists()


@pytest.mark.parametrize(
    ("exp", "out", "more", "named"),
    [
        ("exp/asr", "out", [], "exp/asr/config.yaml is not compressed"),
        ("exp/small", "exp/small", [], "exp/small holds other files"),
        ("exp/small", "exp/asr", [], "exp/asr holds other files"),
        ("exp/small", "train.yaml", [], "train.yaml is a file: give a folder"),
        ("exp/none", "out", [], "no such experiment folder: exp/none"),
        ("exp/small", "out", ["--int8"], "--int8 and --data go with --onnx"),
        ("exp/small", "out", ["--data", "dump/raw/dev"], "--int8 and --data go with --onnx"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(small, recipe, shrink, exp, out, more, named):
    before = tree(recipe)
    ended = shrink("export", "--exp", exp, "--dense", "--out", out, *more)
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert ended.err.startswith("espnet-shrink export: ") and named in ended.err
    assert tree(recipe) == before


@pytest.mark.parametrize("kinds", [[], ["--dense", "--onnx"]])
def test_exactly_one_kind_is_asked_for(shrink, kinds):
    ended = shrink("export", "--exp", "exp/small", "--out", "out", *kinds)
    assert ended.status == 2 and "--dense" in ended.err and "--onnx" in ended.err
