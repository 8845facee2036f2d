"""A packed model brings no data, no code and no shell commands of its author's."""

import gzip
import shlex
from pathlib import Path

import packing
import pytest
import torch
import yaml
from conftest import ROUNDS, SEARCH
from packing import MODEL, changed_yaml, changed_zip
from test_sources_bad import CONFIG, EXECUTED, refused  # noqa: F401

from espnet_shrink.compat.elsewhere import fetches
from espnet_shrink.core.files import read_yaml

EVIL = "exp/evil.scp"
AUTHORS = {
    "train_data_path_and_name_and_type": [[EVIL, "speech", "kaldi_ark"], [EVIL, "text", "text"]],
    "valid_data_path_and_name_and_type": [["touch executed |", "speech", "kaldi_ark"]],
    "train_shape_file": [EVIL], "valid_shape_file": [EVIL], "rir_scp": EVIL, "noise_scp": EVIL,
    "init_param": [EVIL], "pretrain_path": EVIL, "output_dir": "$(touch executed)",
    "collect_stats": True, "write_collected_feats": True, "dry_run": True,
    "multiple_iterator": True, "use_wandb": True, "wandb_project": "`touch executed`",
    "use_deepspeed": True, "deepspeed_config": EVIL, "dist_init_method": "tcp://evil:1",
    "dataset": {"_target_": "os.system"}, "no_key_of_espnet": "${oc.env:HOME}",
    "optim": {"_target_": "os.system"},
}  # fmt: skip


@pytest.fixture
def evil(packed) -> Path:
    """A packed model whose config trains on the output of a command."""
    command = shlex.join(["touch", str(Path("executed").absolute())])
    names = (packed / "dump/raw/train/text").read_text().splitlines()
    scp = "".join(f"{line.split()[0]} {command} |\n" for line in names)
    changes = {CONFIG: changed_yaml(**AUTHORS), EVIL: scp.encode()}
    changed_zip(packed / "model.zip", Path("evil.zip"), changes)
    return Path("evil.zip").absolute()


def test_the_payload_would_do_it(evil, tmp_path):
    Path("evil.scp").write_text("a touch executed |\n")
    with pytest.raises(Exception):  # noqa: B017
        pytest.importorskip("kaldiio").load_scp("evil.scp")["a"]
    assert EXECUTED.exists()


def test_what_its_author_had_is_left_out_by_name(evil, packed, shrink):
    done = shrink("unpack", evil, "--out", "out")
    assert done.status == 0 and done.err == ""
    (named,) = [line for line in done.out.splitlines() if line.startswith("left out:")]
    assert AUTHORS.keys() <= set(named.split())
    made, before = read_yaml("out/config.yaml"), read_yaml(packed / MODEL / "config.yaml")
    text = Path("out/config.yaml").read_text()
    for word in ("evil", "executed", "oc.env", "_target_", "os.system", "dump/raw"):
        assert word not in text
    assert made["train_data_path_and_name_and_type"] == [] and made["use_wandb"] is False
    # What the model is, and how it was trained, is there.
    for key in ("encoder_conf", "decoder_conf", "token_list", "optim_conf", "batch_size", "seed"):
        assert made[key] == before[key], key


def test_without_data_of_the_users_it_is_not_retrained(evil, packed, shrink, monkeypatch):
    here = Path.cwd()
    monkeypatch.chdir(packed)  # the data that an honest config names is there
    for archive in (evil, "model.zip"):
        done = shrink("compress", archive, "--data", "dump/raw/dev", "--target", "1.2x",
                      "--out", here / "o")  # fmt: skip
        assert done.status == 2 and len(done.err.splitlines()) == 1
        assert "its config names none: give a folder of training data (--train DIR)" in done.err
        packing.shutil.rmtree(here / "o")
    assert not (here / EXECUTED).exists()


@pytest.mark.slow
def test_with_data_of_the_users_it_is_retrained_on_that(evil, packed, shrink, monkeypatch):
    here = Path.cwd()
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}))
    preset = {**ROUNDS, "target": 1.2, "epochs": 1, "final_epochs": 1, "control": False}
    preset["train"] = {"optim": "adam", "optim_conf": {"lr": 0.001}}
    Path("rounds.yaml").write_text(yaml.safe_dump(preset))
    monkeypatch.chdir(packed)
    done = shrink("compress", evil, "--data", "dump/raw/dev", "--train", "dump/raw/train",
                  "--out", here / "o", "--rounds_config", here / "rounds.yaml",
                  "--search_config", here / "search.yaml")  # fmt: skip
    assert done.status == 0, done.err
    assert not (here / EXECUTED).exists() and not EXECUTED.exists()
    config = read_yaml(here / "o/round1/config.yaml")
    assert config["train_data_path_and_name_and_type"][0][0] == "dump/raw/train/wav.scp"
    assert "evil" not in (here / "o/round1/config.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"frontend": "s3prl", "frontend_conf": {"frontend_conf": {"upstream": "hubert"}}},
         "frontend s3prl takes hubert from S3PRL's hub, and what comes can execute code"),
        ({"frontend": "fused", "frontend_conf": {"frontends": [
            {"frontend_type": "s3prl", "frontend_conf": {"path_or_url": "http://evil"}}]}},
         "takes http://evil from S3PRL's hub"),
        ({"frontend": "espnet_ssl", "frontend_conf": {"frontend_conf": {"path_or_url": "a/b"}}},
         "takes a/b from ESPnet's model zoo"),
        ({"encoder": "wav2vec2", "encoder_conf": {"w2v_url": "http://evil"}},
         "encoder wav2vec2 takes http://evil from fairseq's loader"),
        ({"encoder": "hubert"}, "encoder hubert takes its pretrained model from fairseq's"),
        ({"decoder": "hugging_face_transformers", "decoder_conf": {
            "model_name_or_path": "a/b",
            "overriding_architecture_config": {"trust_remote_code": True}}},
         "takes the model a/b from Hugging Face, and what comes can execute code"),
        ({"encoder_conf": {"_target_": "os.system", "command": "touch executed"}},
         "encoder_conf._target_: 'os.system' could run code"),
        ({"model_conf": {"x": [{"y": "${oc.env:HOME}"}]}}, "model_conf.x.y: '${oc.env:HOME}'"),
        ({"frontend_conf": {"trust_remote_code": True}}, "frontend_conf.trust_remote_code"),
        ({"token_list": "/etc/passwd"}, "names /etc/passwd (token_list), a file of this machine"),
        ({"preprocessor_conf": {"noise_scp": "/etc/passwd"}}, "names /etc/passwd (preproc"),
    ],
)  # fmt: skip
def test_what_could_run_code_is_refused(packed, refused, changes, named):  # noqa: F811
    changed_zip(packed / "model.zip", Path("bad.zip"), {CONFIG: changed_yaml(**changes)})
    assert named in refused("bad.zip")


@pytest.mark.parametrize("name", ["a$(touch executed)", "a`b`", "a\nb", "a;b", "a|", "-a", "a'b"])
def test_names_that_a_shell_would_take_for_more_are_refused(packed, refused, name):  # noqa: F811
    changed_zip(packed / "model.zip", Path("bad.zip"), {name: b""})
    assert "means more than itself to a shell" in refused("bad.zip")


# --- the user's own folder ---


def with_ark(entry: str, preset: bool) -> list:
    """exp/asr trains on a kaldi_ark list with `entry` as its second one; gives options."""
    first = Path("dump/raw/train/wav.scp").read_text().split()[0]
    Path("ark.scp").write_text(f"{first} some.ark:5\nx{entry}\n")
    data = [["ark.scp", "speech", "kaldi_ark"], ["dump/raw/train/text", "text", "text"]]
    keys = {"train_data_path_and_name_and_type": data}
    if preset:
        Path("rounds.yaml").write_text(yaml.safe_dump({**ROUNDS, "train": keys}))
        return ["--rounds_config", "rounds.yaml"]
    path = Path("exp/asr/config.yaml")
    path.write_text(yaml.safe_dump(read_yaml(path) | keys))
    return []


@pytest.mark.parametrize("preset", [False, True])
@pytest.mark.parametrize(
    "entry",
    [" touch executed |", "\ttouch executed|", " touch executed |:12", " touch executed | [0:3]",
     " | touch executed", "  touch executed |  \t"],
)  # fmt: skip
def test_a_pipe_in_a_list_of_data_is_never_run(recipe, shrink, entry, preset):
    options = with_ark(entry, preset)
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--target", "1.2x",
                  "--out", "o", *options)  # fmt: skip
    assert done.status == 2 and len(done.err.splitlines()) == 1, done.err
    assert "ark.scp: x is a pipe: no command is run for data: format it first" in done.err
    assert not EXECUTED.exists() and not Path("o").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"train_data_path_and_name_and_type": [["touch executed |", "speech", "kaldi_ark"]]},
        {"valid_data_path_and_name_and_type": [["touch executed |", "speech", "kaldi_ark"]]},
        {"noise_scp": "noise.scp"},
        {"valid_data_path_and_name_and_type": [[" noise.scp", "speech", "kaldi_ark_x"]]},
        {"valid_data_path_and_name_and_type": [["noise.scp.gz", "speech", "kaldi_ark"]]},
        {"multiple_iterator": True,
         "valid_data_path_and_name_and_type": [["splits", "speech", "kaldi_ark"]]},
    ],
)  # fmt: skip
def test_nor_is_a_list_that_is_a_pipe(recipe, shrink, changes):
    Path("splits").mkdir()
    Path("splits/split.1").write_text("a touch executed |\n")
    Path("noise.scp").write_text("a touch executed |\n")
    Path("noise.scp.gz").write_bytes(gzip.compress(b"a touch executed |\n"))
    path = Path("exp/asr/config.yaml")
    own = read_yaml(path)
    key = "train_data_path_and_name_and_type"
    if key in changes:  # what is missing is refused for that, too
        changes = {key: own[key] + changes[key]}
    path.write_text(yaml.safe_dump(own | changes))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--target", "1.2x",
                  "--out", "o")  # fmt: skip
    assert done.status == 2 and len(done.err.splitlines()) == 1, done.err
    assert "is a pipe: no command is run for data" in done.err
    assert not EXECUTED.exists() and not Path("o").exists()


# --- what is fetched from elsewhere is named ---


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"encoder": "whisper", "encoder_conf": {"whisper_model": "tiny"}},
         "encoder whisper takes the model tiny from OpenAI's server"),
        ({"decoder": "whisper"}, "decoder whisper takes the model small from OpenAI's server"),
        ({"frontend": "huggingface", "frontend_conf": {"model": "a/b"}},
         "frontend huggingface takes the model a/b from Hugging Face"),
        ({"postencoder": "hugging_face_transformers",
          "postencoder_conf": {"model_name_or_path": "a/b"}},
         "postencoder hugging_face_transformers takes the model a/b from Hugging Face"),
        ({"lm": "transformer_opt", "lm_conf": {"opt_name": "facebook/opt"}},
         "lm transformer_opt takes the model facebook/opt from Hugging Face"),
        ({"token_type": "hugging_face", "bpemodel": "a/b"}, "takes the tokenizer a/b from Hugging"),
        ({"src_token_type": "hugging_face", "src_bpemodel": "a/b"}, "src_token_type hugging_face"),
        ({"token_type": "phn", "g2p": "pyopenjtalk_kana"}, "takes its dictionaries from Open"),
    ],
)  # fmt: skip
def test_every_class_that_fetches_is_known(config, said):
    (fetch,) = fetches(config)
    assert said in str(fetch) and not fetch.executes


def test_it_is_named_before_it_is_built(recipe, shrink):
    path = Path("exp/asr/config.yaml")
    conf = {"frontend": "s3prl", "frontend_conf": {"frontend_conf": {"upstream": "hubert_x"}}}
    path.write_text(yaml.safe_dump(read_yaml(path) | conf))
    done = shrink("inspect", "exp/asr")
    assert done.err.splitlines()[0] == (
        "exp/asr/config.yaml: frontend s3prl takes hubert_x from S3PRL's hub, and what comes can "
        "execute code (unless it is in the cache)"
    )
    assert done.status == 2  # here it is not installed


def test_an_old_torch_is_refused(recipe, shrink, monkeypatch):
    """Its weights_only=True can be made to execute code."""
    for version, fits in (("2.5.1+cu121", False), ("1.13.0", False), ("2.6.0", True)):
        monkeypatch.setattr(torch, "__version__", version)
        done = shrink("space", "--exp", "exp/asr", "--out", "out")
        assert (done.status == 0) is fits
        if not fits:
            assert len(done.err.splitlines()) == 1 and "pip install 'torch>=2.6'" in done.err
