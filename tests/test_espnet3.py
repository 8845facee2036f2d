"""ESPnet3: a recipe's run.py compresses, and ESPnet3's own stages decode what comes out."""

import dataclasses
import importlib.util
import logging
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from conftest import CONFIG, SETS, TOKENS, made_once, python, tree, write_data

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.build import fold, plan_of
from espnet_shrink.training.request import TrainingRequest

NEEDS = ["espnet3.contract", "lightning", "distributed", "dask_jobqueue"]
pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name.split(".")[0]) for name in NEEDS)
    or importlib.util.find_spec(NEEDS[0]) is None,
    reason='needs ESPnet 202611 or later with its training packages: pip install "espnet[train]"',
)

SHIPPED = Path(__file__).parents[1] / "egs3" / "mini_an4" / "asr_shrink"

DATASET = """
from pathlib import Path

import soundfile
from espnet3.components.data.base_dataset import BaseDataset
from espnet3.contract import Field


class Dataset(BaseDataset):
    fields = (Field("speech", "audio"), Field("text", "text"))

    def __init__(self, split):
        lines = Path("dump/raw", split, "text").read_text().splitlines()
        self.items = [line.split(maxsplit=1) for line in lines]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        name, text = self.items[index]
        return {"speech": soundfile.read(f"wav/{name}.wav", dtype="float32")[0], "text": text}
"""

IN_THIS_PROCESS = {"options": {"processes": False}}
MODEL = ("frontend_conf", "normalize", "encoder", "encoder_conf", "decoder", "decoder_conf",
         "model_conf")  # fmt: skip
TRAINING = {
    "task": "espnet3.systems.esp2_asr.task.ASRTask",
    "dataset": {
        "train": [{"data_src_args": {"split": "train"}}],
        "valid": [{"data_src_args": {"split": "dev"}}, {"data_src_args": {"split": "test"}}],
        "preprocessor": {
            "_target_": "espnet2.train.preprocessor.CommonPreprocessor",
            "token_type": "char", "token_list": "data/tokens.txt",
        },
    },
    "tokenizer": {"model_type": "char", "save_path": "data", "vocab_size": len(TOKENS)},
    "model": {"token_list": "data/tokens.txt", **{key: CONFIG[key] for key in MODEL}},
    "optimizer": {"lr": 0.02},
    "scheduler": {"warmup_steps": 20},
    "seed": 0,
    "best_model_criterion": [["valid/acc", 2, "max"]],
    "dataloader": {"train": {"iter_factory": {"batches": {"type": "sorted", "batch_size": 4}}}},
    "trainer": {"accelerator": "cpu", "max_epochs": 4, "check_val_every_n_epoch": 2,
                "log_every_n_steps": 8},
    "shrink": {
        "out_dir": "${exp_dir}_shrink",
        "proxy": {"size": 8},
        "search": {"evaluations": 12, "min_rank": 1},
        "rounds": {"target": 1.6, "final_epochs": 2, "control": False, "wer_limit_absolute": 1e3},
    },
}  # fmt: skip
INFERENCE = {
    "dataset": {"test": [{"name": "test", "data_src_args": {"split": "test"}}]},
    "model": {
        "_target_": "espnet2.bin.asr_inference.Speech2Text",
        "asr_train_config": "${exp_dir}/config.yaml",
        "asr_model_file": "${exp_dir}/valid.acc.ave_1best.pth",
        "beam_size": 2, "ctc_weight": 0.3,
    },
    "batch_size": 1,
    "parallel": IN_THIS_PROCESS,
}  # fmt: skip
RUN = ["-m", "espnet_shrink.run", "run.py"]  # the launcher only makes it start faster


def make(root: Path) -> None:
    """The recipe after train, proxy, search and shrink, with one round."""
    write_data(root)
    shutil.copy(SHIPPED / "run.py", root)
    (root / "dataset").mkdir()
    (root / "dataset" / "__init__.py").write_text(DATASET)
    for name in ("char.model", "char.vocab"):  # ESPnet3 looks for them before it trains
        (root / "data" / name).touch()
    shapes = root / "exp" / "stats"
    for split, names in {"train": ["train"], "valid": ["dev", "test"]}.items():
        texts = [(root / "dump/raw" / name / "text").read_text() for name in names]
        files = [line.split()[0] for text in texts for line in text.splitlines()]
        lengths = [soundfile.info(root / "wav" / f"{file}.wav").frames for file in files]
        (shapes / split).mkdir(parents=True)
        (shapes / split / "feats_shape").write_text(
            "".join(f"{index} {length}\n" for index, length in enumerate(lengths))
        )
    (root / "conf").mkdir()
    for name, config in {"training": TRAINING, "inference": INFERENCE}.items():
        (root / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    done = python(*RUN, "--stages", "train", "proxy", "search", "shrink",
                  "--training_config", "conf/training.yaml", cwd=root)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def compressed_recipe(tmp_path_factory):
    return made_once("espnet3", make, tmp_path_factory)


@pytest.fixture
def recipe3(compressed_recipe, tmp_path, monkeypatch):
    copy = tmp_path / "recipe"
    shutil.copytree(compressed_recipe, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


def stages(*arguments):
    """run.py in this process; gives its exit status."""
    from espnet3.systems.launch import launch

    from espnet_shrink.espnet3 import ShrinkSystem

    try:
        launch(ShrinkSystem, conf_package="egs3.TEMPLATE.esp2_asr", argv=["--stages", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


OUT = Path("exp/training_shrink")


def test_the_stages_leave_a_smaller_model_that_espnet3_trained(recipe3):
    baseline = load_model(*find_model("exp/training"))
    small = load_model(*find_model(OUT / "round1"))
    params = [sum(p.numel() for p in loaded.model.parameters()) for loaded in (baseline, small)]
    assert params[0] / 1.9 < params[1] <= params[0] / 1.6
    assert plan_of(small.model).ranks == read_yaml(OUT / "search" / "plan.yaml")["ranks"]
    assert (OUT / "round1" / "last.ckpt").exists()  # Lightning's
    config = read_yaml(OUT / "round1" / "training.yaml")
    state = torch.load("exp/training/last.ckpt", weights_only=False)["optimizer_states"][0]
    last = state["param_groups"][0]["lr"]
    assert last < 0.02  # after its warm-up
    assert config["optimizer"]["lr"] == pytest.approx(0.5 * last)
    assert config["trainer"]["max_epochs"] == 2
    assert config["trainer"]["logger"][0]["save_dir"] == f"{OUT}/round1/tensorboard"


def test_a_teacher_rides_along_with_espnet3s_trainer_and_stays_out_of_what_it_saves(recipe3):
    taught = Path("exp/taught")
    shutil.copytree(OUT, taught)
    shutil.rmtree(taught / "round1")
    for name in ("rounds.yaml", "settings.yaml"):
        (taught / name).unlink()
    config = read_yaml("conf/training.yaml") | {"exp_tag": "training"}
    config["shrink"]["out_dir"] = str(taught)
    config["shrink"]["rounds"]["distil"] = {"token_kl": 1.0, "ctc_kl": 0.5}
    Path("conf/taught.yaml").write_text(yaml.safe_dump(config))
    assert stages("shrink", "--training_config", "conf/taught.yaml") == 0
    assert "teaches 1 token_kl + 0.5 ctc_kl" in (taught / "round1/train.log").read_text()
    saved = torch.load(taught / "round1/last.ckpt", weights_only=False)
    init = torch.load(taught / "round1/init.pth", weights_only=True)
    assert {name.removeprefix("model.") for name in saved["state_dict"]} == init.keys()
    small = load_model(*find_model(taught / "round1")).model
    groups = saved["optimizer_states"][0]["param_groups"]
    assert sum(len(group["params"]) for group in groups) == len(list(small.parameters()))


def test_training_starts_from_the_factors(recipe3):
    from espnet3.utils.task_utils import get_espnet_model

    config = read_yaml(OUT / "round1" / "training.yaml")
    model = get_espnet_model(config["task"], config["model"])
    wanted = torch.load(OUT / "round1" / "init.pth", weights_only=True)
    torch.testing.assert_close(dict(model.state_dict()), wanted, rtol=0, atol=0)
    assert plan_of(model).factored


def test_espnet3_decodes_what_the_folded_model_decodes(recipe3):
    configs = ["--training_config", f"{OUT}/round1/training.yaml",
               "--inference_config", "conf/inference.yaml"]  # fmt: skip
    assert stages("infer", *configs) == 0
    lines = (OUT / "round1/inference/test/text.scp").read_text().splitlines()
    found = [line.partition(" ")[2] for line in lines]
    assert len(found) == SETS["test"] and any(found)

    from espnet2.bin.asr_inference import Speech2Text

    small = load_model(*find_model(OUT / "round1"))
    decode = Speech2Text(str(small.config), str(small.checkpoint), beam_size=2, ctc_weight=0.3)
    fold(decode.asr_model)
    assert not plan_of(decode.asr_model).factored
    names = [line.split()[0] for line in Path("dump/raw/test/text").read_text().splitlines()]
    assert found == [decode(soundfile.read(f"wav/{name}.wav")[0])[0][0] for name in names]


def test_the_dev_set_is_what_espnet3_hears(recipe3):
    texts = dict(line.split(maxsplit=1) for line in (OUT / "dev/text").read_text().splitlines())
    assert len(texts) == SETS["dev"] + SETS["test"]
    for number, name in enumerate(["dev", "test"]):
        lines = Path("dump/raw", name, "text").read_text().splitlines()
        for index, (utterance, text) in enumerate(line.split(maxsplit=1) for line in lines):
            ours = f"valid{number}-{index:06}"
            audio = [f"wav/{utterance}.wav", OUT / f"dev/wav/{ours}.wav"]
            samples = [soundfile.read(path, dtype="float32")[0] for path in audio]
            assert (samples[0] == samples[1]).all() and texts[ours] == text


def test_stages_that_are_done_change_nothing(recipe3):
    before = {path: found for path, found in tree(OUT).items() if not path.endswith(".log")}
    assert stages("proxy", "search", "shrink", "--training_config", "conf/training.yaml") == 0
    after = {path: found for path, found in tree(OUT).items() if not path.endswith(".log")}
    assert after == before


def test_the_report_decodes_every_model(recipe3):
    with_configs = ["--training_config", "conf/training.yaml"]
    assert stages("shrink_report", *with_configs, "--inference_config", "conf/inference.yaml") == 0
    results = yaml.safe_load((OUT / "results.json").read_text())
    assert results["baseline"]["epochs"] == 4
    (size,) = results["sizes"]
    assert size["final"]["round"] == 1 and size["final"]["rtf"]["test"] > 0
    references = [
        [line.partition(" ")[2] for line in path.read_text().splitlines()]
        for path in (OUT / "references/test/text", Path("dump/raw/test/text"))
    ]
    assert references[0] == references[1]


def test_a_round_keeps_its_best_epoch(recipe3):
    """ESPnet3's own average of one lags behind: it does not know the last epoch."""
    small = load_model(*find_model(OUT / "round1"))
    best = next((OUT / "round1").glob("epoch*_valid.acc.ckpt"))  # as Lightning writes it
    saved = load_model(small.config, best)
    states = [dict(loaded.model.state_dict()) for loaded in (small, saved)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_the_average_of_most_epochs_is_the_model(tmp_path):
    (tmp_path / "config.yaml").write_text("best_model_criterion: [[valid/acc, 3, max]]\n")
    for name in ("last.ckpt", "epoch3_step9_valid.acc.ckpt", "valid.loss.ave_10best.pth",
                 "valid.acc.ave_2best.pth", "valid.acc.ave_10best.pth"):  # fmt: skip
        (tmp_path / name).touch()
    assert find_model(tmp_path)[1].name == "valid.acc.ave_10best.pth"
    (tmp_path / "valid.acc.ave.pth").touch()  # espnet2's
    assert find_model(tmp_path)[1].name == "valid.acc.ave.pth"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shrink": None}, "no section `shrink` with an `out_dir`"),
        ({"shrink": {"out_dir": "out", "sarch": {}}}, "unknown setting sarch: choose of"),
        ({"shrink": {"out_dir": "out", "rounds": {"target": "five"}}}, "must be float"),
        ({"exp_dir": "exp/nothing"}, "exp/nothing has no config.yaml"),
    ],
)
def test_a_bad_config_is_one_line(recipe3, caplog, change, message):
    config = {**TRAINING, **change}
    if config["shrink"] is None:
        del config["shrink"]
    Path("conf/bad.yaml").write_text(yaml.safe_dump({"exp_tag": "training", **config}))
    with caplog.at_level(logging.ERROR):
        assert stages("shrink", "--training_config", "conf/bad.yaml") == 2
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and errors[0].exc_info is None
    assert message in errors[0].getMessage() and "\n" not in errors[0].getMessage()


def test_an_unknown_stage_is_refused(recipe3, capsys):
    assert stages("shrnk", "--training_config", "conf/training.yaml") == 2
    assert "invalid choice: 'shrnk'" in capsys.readouterr().err


@pytest.mark.parametrize("key, value, message", [
    ("task", None, "`task` of the training config is None"),
    ("optimizer", {}, "no optimizer.lr"),
])  # fmt: skip
def test_what_espnet3_cannot_retrain_is_refused_before_training(
    recipe3, tmp_path, key, value, message
):
    from espnet_shrink.espnet3.retrain import retrain

    with pytest.raises(ShrinkError, match=message):
        retrain(
            {**TRAINING, "exp_tag": "x", "exp_dir": "x", key: value},
            TrainingRequest({}, {}, tmp_path / "new", 1, 0.5),
        )


def test_the_shipped_config_says_only_what_is_other_than_the_defaults():
    """So that no key can lag behind the presets, which a test holds against the settings."""
    from espnet_shrink.espnet3.settings import read_section

    config = read_yaml(SHIPPED / "conf" / "shrink.yaml")
    settings = read_section(config)
    for part in ("search", "rounds"):
        defaults = dataclasses.asdict(type(getattr(settings, part))())
        given = config["shrink"][part]
        assert given and all(defaults[key] != value for key, value in given.items())
    assert config["shrink"]["proxy"].keys() == dataclasses.asdict(settings.proxy).keys()
