"""Stage 20 of run.sh: every form of decoding that ESPnet has, once, with the right checkpoint."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from architectures import STAND_INS, make
from conftest import compress, write_data
from test_run_sh import elsewhere, folder, run_there  # noqa: F401
from toy import random_plan

from espnet_shrink.core.files import read_yaml
from espnet_shrink.methods.lowrank.sites import survey

CUT = 1  # test utterances
# Programs find ESPnet's transducer loss there.
PYTHONPATH = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(STAND_INS)]))


def rename_checkpoint(exp: Path, criterion: str, mode: str) -> str:
    """Make it a model whose config chooses by `criterion`; gives the checkpoint's name."""
    name = f"valid.{criterion}.ave.pth"
    (exp / "valid.acc.ave.pth").rename(exp / name)
    config = read_yaml(exp / "config.yaml")
    config["best_model_criterion"] = [["valid", criterion, mode]]
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    return name


@pytest.fixture
def compressed(tmp_path, monkeypatch):
    """A recipe with a base model of an architecture and one round of it, as stage 19 leaves it."""

    def compressed_as(name: str) -> Path:
        root = tmp_path / "recipe"
        write_data(root)
        monkeypatch.chdir(root)
        test = root / "dump/raw/test"
        lines = (test / "wav.scp").read_text().splitlines()[:CUT]
        (test / "wav.scp").write_text("".join(f"{line}\n" for line in lines))
        (test / "utt2md5").write_text("".join(f"{line.split()[0]} 0\n" for line in lines))
        base = make(name, Path("exp/asr"))
        round1 = Path("small/round1")
        compress(base, random_plan(survey(base.model).sites, 1), round1)
        shutil.copy(round1 / "valid.acc.ave.pth", round1 / "init.pth")
        (round1 / "round.yaml").write_text("status: accepted\n")
        Path("small/rounds.yaml").write_text("final: 1\n")
        return root

    return compressed_as


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "int8"),
    [
        ("transducer", [], "No row of the quantised model: ESPnet's search for a transducer"),
        ("asr_transducer", ["--asr_task", "asr_transducer"], ""),
        (
            "contextual_block_conformer",
            ["--use_streaming", "true"],
            "No row of the quantised model: ESPnet's asr_inference_streaming cannot quantise",
        ),
        (
            "maskctc",
            ["--use_maskctc", "true"],
            "No row of the quantised model: ESPnet's asr_inference_maskctc cannot quantise",
        ),
    ],
    ids=["transducer", "asr_transducer", "streaming", "maskctc"],
)
def test_every_form_is_decoded_once_with_the_checkpoint_that_each_config_names(
    compressed,
    elsewhere,  # noqa: F811
    name,
    options,
    int8,
):
    root = compressed(name)
    of_base = rename_checkpoint(root / "exp/asr", "loss", "min")
    there = elsewhere(root)
    arguments = ["--asr_exp", "exp/asr", "--valid_set", "dev", "--test_sets", "test", *options,
                 "--shrink_exp", "small", "--stage", 20, "--stop_stage", 20, "--ngpu", 0,
                 "--inference_args", "" if name == "maskctc" else "--beam_size 1"]  # fmt: skip
    done = run_there(there, *arguments, "--nj", 2, PYTHONPATH=PYTHONPATH)
    assert done.returncode == 0, done.stdout + done.stderr
    tag = "inference" if name in ("asr_transducer", "maskctc") else "decode_asr"
    decodings = {f"exp/asr/{tag}": of_base, f"small/round1/{tag}": "valid.acc.ave.pth",
                 f"small/round1/{tag}_before_retraining": "init.pth"}  # fmt: skip
    if int8:
        assert int8 in done.stdout
    else:
        decodings[f"small/round1/{tag}_int8"] = "valid.acc.ave.pth"
    for decoding, checkpoint in decodings.items():
        assert f": {checkpoint} -> {decoding}\n" in done.stdout
        assert len((there / decoding / "test/text").read_text().splitlines()) == CUT
    assert (there / "small/round1" / f"{tag}_int8").exists() == (not int8)
    if name == "maskctc":  # again, nothing is decoded
        logs = {log: log.stat().st_mtime_ns for log in there.glob("**/asr_inference.*.log")}
        assert len(logs) == len(decodings) * CUT
        done = run_there(there, *arguments, "--nj", 1)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("already decoded") == len(decodings)
        assert "Stage 12" not in done.stdout
        assert logs == {log: log.stat().st_mtime_ns for log in there.glob("**/asr_inference.*.log")}
        # A changed result or option is.
        (there / "exp/asr" / tag / "test/text").write_text("edited\n")
        done = run_there(there, *arguments)
        assert done.stdout.count("already decoded") == len(decodings) - 1


def test_a_decoding_that_espnet_does_not_know_is_refused_before_the_search(compressed, elsewhere):  # noqa: F811
    there = elsewhere(compressed("rnn"))
    for options, named in (
        (["--inference_args", "--beam_sise 3"], "unrecognized arguments: --beam_sise 3"),
        (["--asr_task", "asr_transducer", "--inference_config", "d.yaml"], "ctc_weight"),
        (["--inference_asr_model", "none.pth"], "no such file: exp/asr/none.pth"),
    ):
        (there / "d.yaml").write_text("ctc_weight: 0.5\n")
        done = run_there(there, "--asr_exp", "exp/asr", "--valid_set", "dev", "--test_sets",
                         "test", "--stage", 16, *options)  # fmt: skip
        assert done.returncode == 2
        assert named in done.stderr.splitlines()[-1] and len(done.stderr.splitlines()) == 1
        assert not (there / "exp/asr_shrink").exists()
