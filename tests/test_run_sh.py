"""run.sh of the recipe: bad options are one line and exit status 2, before anything runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import tree

from espnet_shrink.compat.models import find_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.presets import presets
from espnet_shrink.report.results import load

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
    for name in ("train_mini", "dev_mini", "test_mini"):
        text = folder / "dump" / "raw" / name / "text"
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
    ("name", "file"),
    [("rounds", "rounds"), ("search", "search"), ("whisper", "whisper_train")],
)
def test_the_recipes_presets_are_those_of_the_package(name, file):
    """Copies, as links would lead out of egs2."""
    own = EGS / "librispeech" / "asr_shrink" / "conf" / f"{file}.yaml"
    assert own.read_bytes() == presets()[name].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--corpus", "klingon"], "unknown corpus 'klingon': choose mini, mini_librispeech"),
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dumpdir", "made"], "no made/raw/dev_digits"),
        (["--dumpdir", "made", "--valid_set", "test_digits"], "no made/raw/test_digits"),
        (["--valid_set", "dev_b"], "the digits corpus has no set 'dev_b'"),
    ],
)
def test_folders_and_sets_can_be_named(folder, arguments, said):
    done = run(folder, "--corpus", "digits", "--stage", 10, *arguments)
    assert done.returncode == 2 and said in done.stderr


# --- in the folder of another recipe ---


@pytest.fixture
def elsewhere(folder, tmp_path, monkeypatch):
    """Turn a recipe that has been run into the folder of a recipe beside ours: egs2/tones/asr1."""

    def move(recipe: Path) -> Path:
        there = folder.parents[1] / "tones" / "asr1"
        there.parent.mkdir()
        monkeypatch.chdir(tmp_path)
        recipe.rename(there)
        for name in ("asr.sh", "path.sh", "cmd.sh", "utils", "scripts", "pyscripts"):
            (there / name).symlink_to(Path("../../TEMPLATE/asr1") / name)
        return there

    return move


def run_there(there: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess:
    """Our run.sh in the folder of another recipe."""
    return subprocess.run(
        ["../../librispeech/asr_shrink/run.sh", *map(str, arguments)], cwd=there,
        env=ENVIRONMENT | more, capture_output=True, text=True,
    )  # fmt: skip


MODEL = ["--asr_exp", "exp/asr", "--valid_set", "dev", "--test_sets", "test"]


def test_bad_input_elsewhere_is_one_line_and_exit_status_2(recipe, elsewhere):
    there = elsewhere(recipe)
    before = tree(there)
    for arguments, named in (
        (MODEL, "stages 1 to 15 are for this folder's own run.sh"),
        (["--stage", 16, *MODEL[2:]], "give --asr_exp"),
        (["--stage", 16, *MODEL[:2], *MODEL[4:]], "give --valid_set"),
        (["--stage", 16, *MODEL[:4]], "give --test_sets"),
        (["--stage", 16, *MODEL, "--valid_set", "none"], "no dump/raw/none/text"),
        (["--stage", 16, *MODEL, "--asr_exp", "exp/none"], "no trained model in exp/none"),
        (["--stage", 16, *MODEL, "--colour", "red"], "--colour"),
    ):
        done = run_there(there, *arguments)
        assert done.returncode == 2, arguments
        assert len(done.stderr.splitlines()) == 1 and named in done.stderr
    (there / "asr.sh").unlink()
    done = run_there(there, "--stage", 16, *MODEL)
    assert done.returncode == 2 and "go to a recipe's folder first" in done.stderr
    (there / "asr.sh").symlink_to("../../TEMPLATE/asr1/asr.sh")
    assert tree(there) == before


def test_stages_of_compression_run_in_the_folder_of_another_recipe(finished, elsewhere):
    there = elsewhere(finished)
    (there / "data" / "stats.npz").write_text("statistics")
    config = there / "small" / "round2" / "config.yaml"
    config.write_text(config.read_text() + "normalize_conf:\n  stats_file: data/stats.npz\n")
    done = run_there(
        there, *MODEL, "--stage", 16, "--stop_stage", 16, "--proxy_size", 4, "--shrink_exp", "b"
    )
    assert done.returncode == 0, done.stderr
    assert (there / "b" / "proxy" / "text").read_text().count("\n") == 4
    done = run_there(
        there, *MODEL, "--stage", 21, "--shrink_exp", "small", "--inference_tag", "decode"
    )
    assert done.returncode == 0, done.stderr
    assert "tones, test" in done.stdout
    packed = there / "small" / "round2" / "round2_valid.acc.ave.zip"
    assert done.stdout.splitlines()[-1] == f"packed: {packed.relative_to(there)}"
    names = zipfile.ZipFile(packed).namelist()
    assert {
        "README.md", "RESULTS.md", "exp/round2/config.yaml", "data/round2_stats_file.npz",
    } < set(names)  # fmt: skip


def test_several_sizes_are_one_table_and_an_archive_each(finished, elsewhere):
    there = elsewhere(finished)
    for target in (1.3, 1.6):
        size = there / "sizes" / f"{target:g}x"
        shutil.copytree(there / "small", size)
        settings = read_yaml(size / "settings.yaml")
        (size / "settings.yaml").write_text(yaml.safe_dump({**settings, "target": target}))
    done = run_there(
        there, *MODEL, "--stage", 21, "--shrink_exp", "sizes", "--inference_tag", "decode",
        "--target", "1.3x,1.6x",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    archives = [
        f"packed: sizes/{target}/round2/round2_valid.acc.ave.zip" for target in ("1.3x", "1.6x")
    ]
    assert done.stdout.splitlines()[-2:] == archives
    results = load(there / "sizes" / "results.json")
    assert [size.target for size in results.sizes] == [1.3, 1.6]
    assert (there / "sizes" / "pareto.png").stat().st_size > 1000
    refused = run_there(there, *MODEL, "--stage", 19, "--stop_stage", 19, "--target", "2x,two")
    assert refused.returncode == 2 and "not '2x,two'" in refused.stderr


def test_the_dev_set_may_be_among_the_test_sets(finished, elsewhere):
    """asr.sh then decodes it as org/dev."""
    there = elsewhere(finished)
    for folder in [there / "dump" / "raw", *there.glob("**/decode")]:
        (folder / "org").mkdir()
        shutil.copytree(folder / "test", folder / "org" / "test")
        shutil.rmtree(folder / "test" / "logdir", ignore_errors=True)
    done = run_there(
        there, *MODEL, "--valid_set", "test", "--stage", 21, "--stop_stage", 21,
        "--shrink_exp", "small", "--inference_tag", "decode",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tones, org/test" in done.stdout and "tones, test" not in done.stdout


@pytest.mark.parametrize("chosen", ["", "2"])
def test_stages_use_all_cores_whatever_path_sh_says_but_not_what_the_user_says(
    recipe, elsewhere, tmp_path, chosen
):
    """ESPnet's path.sh chooses one thread, for its many jobs."""
    there = elsewhere(recipe)
    path_sh = (there / "path.sh").read_text()
    (there / "path.sh").unlink()
    (there / "path.sh").write_text(f"{path_sh}\nexport OMP_NUM_THREADS=1\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").write_text(
        f'#!/bin/sh\necho "$OMP_NUM_THREADS: $*" >> {tmp_path}/calls\nexec {sys.executable} "$@"\n'
    )
    (programs / "python3").chmod(0o755)
    done = run_there(
        there, *MODEL, "--stage", 16, "--stop_stage", 16, "--proxy_size", 4,
        PATH=f"{programs}:{ENVIRONMENT['PATH']}", OMP_NUM_THREADS=chosen,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split(":")[0] for call in calls if " proxy " in call] == [chosen]


CLUSTER = """\
#!/usr/bin/env bash
# A stand-in for slurm.pl: [OPTION VALUE]... LOG COMMAND...
options=
while [[ $1 == --* ]]; do options+="$1 $2 "; shift 2; done
log=$1
shift
echo "# ${options}" > "${log}"
status=0
"$@" >> "${log}" 2>&1 || status=$?
echo "# Finished with status ${status}" >> "${log}"
exit "${status}"
"""


def test_on_a_cluster_the_long_stages_are_jobs(recipe, elsewhere):
    there = elsewhere(recipe)
    (there / "cmd.sh").unlink()
    (there / "cmd.sh").write_text(
        "cmd_backend=slurm\nexport train_cmd='./cluster --mem 1G' cuda_cmd=none decode_cmd=none\n"
    )
    (there / "cluster").write_text(CLUSTER)
    (there / "cluster").chmod(0o755)
    arguments = [*MODEL, "--stage", 16, "--stop_stage", 16, "--shrink_exp", "small"]
    # It asks for as many processors as it will use.
    done = run_there(there, *arguments, "--proxy_size", 4, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert "proxy set small/proxy: 4 utterances (made)" in done.stdout.splitlines()[-1]
    log = (there / "small" / "log" / "proxy.log").read_text().splitlines()
    assert log[0] == "# --mem 1G --num_threads 2 " and done.stdout.splitlines()[-1] in log
    # What goes wrong is told here as well.
    done = run_there(there, *arguments, "--proxy_size", 1000, "--shrink_exp", "large")
    assert done.returncode == 2
    assert "a proxy set of 1000 utterances cannot be drawn from 12" in done.stdout.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("the job failed, see large/log/proxy.log")


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
