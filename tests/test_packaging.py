"""What is published: sdist, wheel, pinned requirements."""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ("benchmarks", "conf", "docs", "egs2", "egs3", "requirements", "tests", "tools", ".ci")
MADE = {"__pycache__", "data", "dump", "downloads", "exp", ".lock"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with sdist and wheel, built of a copy of what is published here."""
    work = tmp_path_factory.mktemp("project")
    for name in (*PUBLISHED, "espnet_shrink"):
        packages = ROOT / name
        subprocess.run(["cp", "-a", str(packages), str(work)], check=True)
    for path in ROOT.iterdir():
        if path.is_file():
            (work / path.name).write_bytes(path.read_bytes())
    code = "import setuptools.build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return work / "dist"


def listing(root: Path) -> dict[str, str | bytes]:
    """Path -> content, or where it links to, of every published file below `root`."""
    found: dict[str, str | bytes] = {}
    for top in PUBLISHED:
        for folder, folders, files in os.walk(root / top):
            links = [n for n in folders if Path(folder, n).is_symlink()]
            folders[:] = [n for n in folders if n not in MADE and n not in links]
            for path in (Path(folder, n) for n in files + links if n not in MADE):
                content = str(path.readlink()) if path.is_symlink() else path.read_bytes()
                found[str(path.relative_to(root))] = content
    return found


@pytest.mark.slow
def test_an_sdist_is_the_project_and_runs_its_tests(built, tmp_path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (project,) = tmp_path.iterdir()
    assert listing(project) == listing(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "tests/test_plan.py", "tests/test_recipe_verb.py"],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_wheel_has_its_page(built):
    (archive,) = built.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        (name,) = [n for n in opened.namelist() if n.endswith(".dist-info/METADATA")]
        page = email.message_from_bytes(opened.read(name))
    assert page["Description-Content-Type"].startswith("text/markdown")
    text = page.get_payload()
    assert "Compress your own model" in text
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 3
    assert all(link.startswith(("https://", "#")) for link in links), links
    assert not re.search(r"!\[[^\]]*\]\((?!https:)", text)
    assert {"Documentation", "Changelog", "Issues"} <= {
        entry.split(",")[0] for entry in page.get_all("Project-URL")
    }
    assert "torch>=2.6" in {entry.replace(" ", "") for entry in page.get_all("Requires-Dist")}
    for extra in page.get_all("Provides-Extra"):
        assert f"`{extra}`" in text, extra


@pytest.mark.parametrize("name", ["py311.txt", "py312.txt", "build.txt"])
def test_every_requirement_has_hashes(name):
    text = (ROOT / "requirements" / name).read_text()
    entries = re.findall(r"^([a-z0-9]\S*)==\S+(.*(?:\n    --hash=\S+.*)*)", text, re.MULTILINE)
    assert entries
    for package, rest in entries:
        assert "--hash=sha256:" in rest, package
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))


@pytest.mark.parametrize("url", [
    "https://bob:hunter2@127.0.0.1:9/simple?token=hunter2", "https://bob:hunter2@[x/simple",
    "bob:hunter2@host/simple", "https://bob:hun:hunter2@127.0.0.1:nine/x", "https://b:h/hunter2@x:y",
])  # fmt: skip
def test_an_index_is_named_without_its_password(url, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import install

    with pytest.raises(install.InstallError, match="cannot read") as caught:
        install.read_url(url)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
