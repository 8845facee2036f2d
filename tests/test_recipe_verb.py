"""espnet-shrink recipe: the recipe in an ESPnet checkout, from a source tree and from a wheel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tree

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "egs2" / "librispeech" / "asr_shrink"
LINKS = ["asr.sh", "path.sh", "pyscripts", "scripts", "steps", "utils"]


def copy_of(folder: Path, target: Path) -> None:
    made = shutil.ignore_patterns("data", "dump", "exp", "downloads", "__pycache__", "recipe_files")
    shutil.copytree(folder, target, symlinks=True, ignore=made)


@pytest.fixture
def checkout(tmp_path):
    """As much of ESPnet's checkout as counts, with scripts that have its names."""
    template = tmp_path / "espnet" / "egs2" / "TEMPLATE" / "asr1"
    copy_of(ROOT / "egs2" / "TEMPLATE" / "asr1", template)
    (template / "steps").mkdir()
    (template / "conf").mkdir()
    (template / "conf" / "slurm.conf").write_text("command sbatch\n")
    with (template / "cmd.sh").open("a") as cmd:
        cmd.write("echo cmd.sh of the checkout\n")
    return tmp_path / "espnet"


@pytest.fixture
def own():
    """Relative path -> content of the recipe's own files."""
    names = ["README.md", "run.sh", "db.sh"]
    names += [f"{p.parent.name}/{p.name}" for p in SOURCE.glob("conf/*")]
    names += [f"local/{p.name}" for p in SOURCE.glob("local/*") if p.is_file()]
    return {name: (SOURCE / name).read_bytes() for name in names}


def check(folder: Path, own: dict[str, bytes]) -> None:
    """All of the recipe is there, and it runs with the checkout's scripts."""
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        *own, "cmd.sh", "conf/slurm.conf", "asr.sh", "path.sh",
    }  # fmt: skip
    assert all((folder / name).read_bytes() == content for name, content in own.items())
    for name in LINKS:
        assert os.readlink(folder / name) == f"../../TEMPLATE/asr1/{name}"
    run = subprocess.run(
        ["./run.sh", "--corpus", "digits", "--stage", "1", "--stop_stage", "1"], cwd=folder,
        capture_output=True, text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    # asr.sh, and the local/data.sh that it calls.
    assert run.stdout.count("cmd.sh of the checkout") == 2
    assert run.returncode == 2 and "--digits_dir DIR" in run.stderr


def test_the_recipe_meets_the_checkouts_scripts(checkout, own, shrink):
    ended = shrink("recipe", checkout)
    folder = checkout / "egs2" / "librispeech" / "asr_shrink"
    assert ended.status == 0 and ended.out.startswith(str(folder))
    assert not any((folder / name).is_symlink() for name in own)
    check(folder, own)


def test_linked_the_recipe_follows_its_source(checkout, own, shrink):
    assert shrink("recipe", checkout, "--link").status == 0
    folder = checkout / "egs2" / "librispeech" / "asr_shrink"
    assert all((folder / name).resolve() == (SOURCE / name).resolve() for name in own)
    assert not (folder / "cmd.sh").is_symlink()  # to be edited for the cluster
    check(folder, own)


def test_a_wheel_brings_the_recipe_along(checkout, own, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, project)
    copy_of(ROOT / "espnet_shrink", project / "espnet_shrink")
    copy_of(SOURCE, project / "egs2" / "librispeech" / "asr_shrink")
    (project / "egs2" / "librispeech" / "asr_shrink" / "exp").mkdir()
    (project / "egs2" / "librispeech" / "asr_shrink" / "exp" / "config.yaml").touch()
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")],
        cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert not list((tmp_path / "lib").rglob("config.yaml"))
    subprocess.run(
        [sys.executable, "-m", "espnet_shrink.cli", "recipe", str(checkout)], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "lib")}, check=True,
    )  # fmt: skip
    check(checkout / "egs2" / "librispeech" / "asr_shrink", own)


def test_what_exists_is_left_as_it_is(checkout, shrink):
    folder = checkout / "egs2" / "librispeech" / "asr_shrink"
    folder.mkdir(parents=True)
    (folder / "notes").write_text("mine\n")
    before = tree(checkout)
    ended = shrink("recipe", checkout)
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert f"{folder} exists already" in ended.err
    assert tree(checkout) == before


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, shrink):
    for folder in (tmp_path, tmp_path / "none"):
        ended = shrink("recipe", folder)
        assert ended.status == 2 and len(ended.err.splitlines()) == 1
        assert f"{folder} is no ESPnet checkout" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_checkout_that_cannot_be_written_to_is_left_as_it_was(checkout, shrink):
    (checkout / "egs2" / "librispeech").write_text("a file\n")
    before = tree(checkout)
    ended = shrink("recipe", checkout)
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert "egs2/librispeech" in ended.err and tree(checkout) == before
