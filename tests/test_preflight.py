"""What would fail after the search is refused before it: one line, status 2, nothing written."""

import shutil
from pathlib import Path

import pytest
import soundfile
import yaml
from conftest import ROUNDS, SEARCH, TOKENS, tree

from espnet_shrink.core.files import read_yaml

CONFIG = Path("exp/asr/config.yaml")


@pytest.fixture
def compress(recipe, shrink):
    """compress exp/asr; gives how it ended."""

    def call(*more, train=None, rounds=None, out="out"):
        Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}))
        Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, **(rounds or {})}))
        data = [] if train is None else ["--train", train]
        presets = ["--rounds_config", "rounds.yaml", "--search_config", "search.yaml"]
        return shrink("compress", "exp/asr", "--data", "dump/raw/dev", *presets, "--out", out,
                      *data, *more)  # fmt: skip

    return call


def change(**keys):
    """Change config.yaml of the base."""
    CONFIG.write_text(yaml.safe_dump({**read_yaml(CONFIG), **keys}))


def copied(name="mine"):
    """A copy of the training folder whose files may be changed."""
    shutil.copytree("dump/raw/train", name)
    return Path(name)


def first_audio(folder, samples=None, rate=16000):
    """Give the first utterance of a folder other samples; gives its name."""
    lines = (folder / "wav.scp").read_text().splitlines()
    name = lines[0].split()[0]
    soundfile.write(folder / "other.wav", samples, rate)
    (folder / "wav.scp").write_text("\n".join([f"{name} {folder}/other.wav", *lines[1:]]) + "\n")
    return name


def rate_of_8_khz(folder):
    first_audio(folder, [0.1] * 8000, 8000)


def stereo(folder):
    first_audio(folder, [[0.1, 0.1]] * 8000)


def empty(folder):
    first_audio(folder, [])


def too_short(folder):
    first_audio(folder, [0.1] * 90)


def no_audio(folder):
    first_audio(folder, [0.1] * 9000)
    (folder / "other.wav").write_bytes(b"RIFF no audio")


def capitals(folder):
    lines = (folder / "text").read_text().splitlines()
    named = [line.split(maxsplit=1) for line in lines]
    (folder / "text").write_text("".join(f"{name} {text.upper()}\n" for name, text in named))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (rate_of_8_khz, "is sampled at 8000 Hz, the model wants 16000 Hz"),
        (stereo, "has 2 channels"),
        (empty, "holds no samples"),
        (too_short, "too short for the model's encoder"),
        (no_audio, "cannot read mine/other.wav"),
        (capitals, "of the tokens are unknown to the model"),
    ],
)
def test_bad_training_data_are_refused_by_the_first_file_and_their_number(compress, harm, said):
    folder = copied()
    harm(folder)
    done = compress(train=folder)
    assert done.status == 2, done.err
    line = done.err.splitlines()[-1]
    assert said in line and "mine/" in line
    assert harm is capitals or "1 of 96 utterances of mine/wav.scp" in line
    assert not Path("out").exists()


def missing_audio():
    Path("wav/train0-00.wav").unlink()


def batches_of_nothing():
    change(batch_type="folded", fold_length=[800])


def unknown_conf():
    change(optim_conf={"lr": 0.01, "momentum_of_sgd": 1.0})


def no_symbols():
    change(non_linguistic_symbols="data/nlsyms.txt")


def lost_noises():
    change(noise_scp="data/noises.scp", noise_apply_prob=0.5)


def houlsby():
    change(use_adapter=True, adapter="houlsby", adapter_conf={})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (missing_audio, "wav/train0-00.wav of train0-00 is missing"),
        (batches_of_nothing, "train data fails"),
        (unknown_conf, "optimiser fails with TypeError"),
        (no_symbols, "data/nlsyms.txt (non_linguistic_symbols), which is not here"),
        (lost_noises, "noises.scp"),
        (houlsby, "houlsby adapters, layers of their own that merge into no weight"),
    ],
)
def test_a_base_that_cannot_be_trained_on_is_refused(compress, harm, said):
    harm()
    done = compress()
    assert done.status == 2, done.err
    assert said in done.err.splitlines()[-1]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ({"train": {"max_epoch": 3}}, "max_epoch is set by retraining itself"),
        ({"train": {"optim": "sgd"}}, "give learning_rate"),
        ({"learning_rate": 0.1, "train": {"optim_conf": {"lr": 0.2}}}, "give one"),
        ({"learning_rate": -1.0}, "learning_rate must not be negative"),
        ({"train": {"batch_type": "heap"}}, "train data fails"),
        ({"target": 900.0}, "cannot be met"),
    ],
)
def test_a_preset_that_cannot_work_is_refused(compress, rounds, said):
    done = compress(rounds=rounds)
    assert done.status == 2, done.err
    assert said in done.err.splitlines()[-1]
    assert not Path("out").exists()


@pytest.mark.parametrize(("out", "said"), [
    ("o:1/x", "colon"), ("data/tokens.txt/out", "it is a file"), ("/proc/out", "cannot be written"),
    ("data/tokens.txt", "it is a file"),
])  # fmt: skip
def test_a_folder_that_cannot_be_written_to_is_refused(compress, recipe, out, said):
    before = tree(recipe / "data")
    done = compress(out=out)
    assert done.status == 2 and said in done.err.splitlines()[-1]
    assert tree(recipe / "data") == before


@pytest.mark.slow
def test_a_config_of_another_time_and_place_retrains_all_the_same(compress):
    """Of another ESPnet's options, several machines, reporters; its lengths are gone."""
    shutil.rmtree("stats")
    change(
        option_of_2031=1, use_wandb=True, wandb_project="x", use_deepspeed=True,
        dist_launcher="mpi",
        multiprocessing_distributed=True, use_amp=True, pretrain_path="old.pth", init="chainer",
        batch_type="numel", batch_bins=400000,
    )  # fmt: skip
    done = compress(rounds={"step": 2.0, "control": False}, out="out of spaces")
    assert done.status == 0, done.err
    assert "no such options: option_of_2031" in done.out
    config = read_yaml("out of spaces/round1/train.yaml")
    assert not config.keys() & {"option_of_2031", "use_wandb", "dist_launcher", "init"}
    lengths = Path("out of spaces/train_data/train/text_shape").read_text().splitlines()
    assert len(lengths) == 96 and lengths[0].endswith(f",{len(TOKENS)}")


def test_a_model_with_lora_is_the_plain_one_with_its_weights(recipe, shrink):
    """ESPnet's trainer saves LoRA merged, and ESPnet decodes with the weight alone."""
    import torch

    from espnet_shrink.compat.models import find_model, load_model

    plain = load_model(*find_model("exp/asr"))
    checkpoint = find_model("exp/asr")[1]
    state = torch.load(checkpoint, weights_only=True)
    site = "decoder.att_list.0.mlp_dec"
    out_size, in_size = state[f"{site}.weight"].shape
    adapter = {f"{site}.lora_A": torch.ones(2, in_size), f"{site}.lora_B": torch.ones(out_size, 2)}
    checkpoint.unlink()
    torch.save({**state, **adapter}, checkpoint)
    conf = {"rank": 2, "alpha": 2, "target_modules": ["mlp_dec"]}
    change(use_adapter=True, adapter="lora", adapter_conf=conf)
    adapted = load_model(*find_model("exp/asr"))
    torch.testing.assert_close(
        dict(adapted.model.state_dict()), dict(plain.model.state_dict()), rtol=0, atol=0
    )
    change(use_adapter=False, use_lora=True, lora_conf=conf)  # as ESPnet 202310 wrote it
    assert load_model(*find_model("exp/asr")).model.state_dict().keys() == state.keys()
    change(use_adapter=True, use_lora=False)
    Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, "step": 2.0, "final_epochs": 1}))
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 7}))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml",
                  "--search_config", "search.yaml", "--out", "out")  # fmt: skip
    assert done.status == 0, done.err
    assert "its LoRA merged into the weights" in done.out
    assert read_yaml("out/round1/config.yaml")["adapter"] == "espnet_shrink"
    assert not read_yaml("out/control/config.yaml")["use_adapter"]

    torch.save(adapter, checkpoint)
    only = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--out", "new")
    assert only.status == 2 and "--save_strategy all" in only.err.splitlines()[-1]
    assert not Path("new").exists()
