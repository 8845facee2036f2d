"""run.sh of the recipe: bad options are one line and exit status 2, before anything runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tree

from espnet_shrink.compat.models import find_model

EGS = Path(__file__).resolve().parents[1] / "egs2"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LIBRISPEECH"} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
}


@pytest.fixture
def folder(tmp_path):
    """The recipe's folder in a copy of egs2 in which nothing was ever run."""
    made = shutil.ignore_patterns("data", "dump", "exp", "downloads")
    shutil.copytree(EGS, tmp_path / "egs2", symlinks=True, ignore=made)
    return tmp_path / "egs2" / "librispeech" / "asr_shrink"


@pytest.fixture
def prepared(folder):
    """The same with as much of the embedded corpus as run.sh looks for."""
    text = folder / "dump" / "raw" / "dev_mini" / "text"
    text.parent.mkdir(parents=True)
    text.write_text("a b\n")
    return folder


def run(folder: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "run.sh", *map(str, arguments)], cwd=folder, env=ENVIRONMENT | more,
        capture_output=True, text=True,
    )  # fmt: skip


def test_egs2_copied_elsewhere_has_all_its_files(folder):
    links = [path for path in folder.parents[1].rglob("*") if path.is_symlink()]
    assert folder / "asr.sh" in links and all(path.exists() for path in links)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--corpus", "klingon"], "unknown corpus 'klingon': choose mini, librispeech or digits"),
        (["--corpus"], "option --corpus needs a value"),
        (["--stage", "16", "--target"], "option --target needs a value"),
        (["16"], "unexpected argument 16"),
        (["--stage", "ten"], "--stage takes a stage number, not 'ten'"),
        (["--stop_stage", "-1"], "--stop_stage takes a stage number, not '-1'"),
        (["--stage", "08"], "--stage takes a stage number, not '08'"),
        (["--stage", ""], "--stage takes a stage number, not ''"),
        (["--asr_config", "conf/no.yaml"], "no such file: conf/no.yaml (--asr_config)"),
        (["--inference_config", "no.yaml"], "no such file: no.yaml (--inference_config)"),
        (["--corpus", "digits", "--stage", "10"], "--corpus digits --stage 1 first"),
        (
            ["--corpus", "digits", "--digits_dir", "d", "--stage", "16"],
            "./run.sh --corpus digits --digits_dir d --stage 1 first",
        ),
        (["--corpus", "librispeech", "--stage", "10"], "corpus librispeech is not prepared"),
        (["--asr_exp", "exp/none", "--stage", "16"], "no trained model in exp/none"),
        (["--asr_exp", "exp/x", "--download_model", "me/x"], "name two models: give one"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(folder, arguments, named):
    before = tree(folder)
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and named in done.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--colour", "red"], "--colour"),
        (["--token_type", "hieroglyph"], "--token_type hieroglyph"),
        (["--speed_perturb_factors"], "needs a value"),
        (["--nj", "many"], "--nj takes a whole number, not 'many'"),
    ],
)
@pytest.mark.parametrize("stage", [10, 16])
def test_options_of_asr_sh_are_refused_before_anything_runs(prepared, arguments, named, stage):
    """Also from stage 16 on, where asr.sh has nothing to do."""
    before = tree(prepared)
    done = run(prepared, "--stage", stage, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and named in done.stderr
    assert tree(prepared) == before


def test_without_librispeech_one_line_says_that_the_embedded_corpus_is_used(prepared):
    done = run(prepared, "--stage", 100, "--stop_stage", 15)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "LibriSpeech" in line]
    assert len(said) == 1 and "using the embedded corpus" in said[0]
    for more in ({"LIBRISPEECH": "/somewhere"}, {}):
        corpus = [] if more else ["--corpus", "mini"]
        done = run(prepared, "--stage", 100, "--stop_stage", 15, *corpus, **more)
        assert "using the embedded corpus" not in done.stdout
    # With LibriSpeech configured, its own data is asked for.
    done = run(prepared, "--stage", 100, LIBRISPEECH="/somewhere")
    assert done.returncode == 2 and "corpus librispeech is not prepared" in done.stderr


def test_compression_without_a_trained_model_names_the_stages_to_run(prepared):
    done = run(prepared, "--stage", 16)
    assert done.returncode == 2
    assert "run stages 10 and 11 first" in done.stderr.splitlines()[-1]


def test_a_downloaded_model_is_unpacked_and_takes_the_place_of_a_trained_one(
    prepared, packed, tmp_path
):
    """A packed file stands for the tag, so that no network is needed."""
    shutil.copytree(packed / "dump/raw/dev", prepared / "dump/raw/dev_mini", dirs_exist_ok=True)
    shutil.copytree(packed / "wav", prepared / "wav")
    archive = tmp_path / "tiny model.v1.zip"
    shutil.copy(packed / "model.zip", archive)
    options = ["--download_model", archive, "--stop_stage", 16, "--proxy_size", 4]
    done = run(prepared, *options, "--stage", 16)
    assert done.returncode == 0, done.stderr
    exp = prepared / "exp" / "tiny_model.v1"
    assert find_model(exp) == (exp / "config.yaml", exp / "valid.acc.ave.pth")
    assert (exp / "lm" / "valid.loss.ave.pth").exists()
    proxy = prepared / "exp" / "tiny_model.v1_shrink" / "proxy"
    assert len((proxy / "text").read_text().splitlines()) == 4
    # Stages 5 to 11 are not run for it; and again, nothing changes.
    before = tree(exp)
    done = run(prepared, "--download_model", archive, "--stage", 5, "--stop_stage", 11)
    assert done.returncode == 0, done.stderr
    assert "Stage " not in done.stdout
    assert tree(exp) == before


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("exp/nosuch", "no such file or folder, and not a model tag: exp/nosuch"),
        ("nosuch.zip", "no such file or folder, and not a model tag: nosuch.zip"),
        ("conf/search.yaml", "conf has no checkpoint"),
    ],
)
@pytest.mark.parametrize("stage", [1, 16])
def test_a_model_that_cannot_be_had_is_one_line_before_anything_runs(folder, model, named, stage):
    before = tree(folder)
    done = run(folder, "--download_model", model, "--stage", stage)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and named in done.stderr
    assert tree(folder) == before


def test_help_lists_the_recipes_options(folder):
    done = run(folder, "--help")
    assert done.returncode == 0
    for option in (
        "corpus=",
        "digits_dir=",
        "target=",
        "16 proxy set",
        "rounds_config=",
        "download_model=",
    ):
        assert option in done.stdout
