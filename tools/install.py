"""Make the project's virtual environment: `python3 tools/install.py [FOLDER]` (default .venv).

Installs the packages pinned in requirements/, every file checked against its hash, and the project
(editable), and does nothing when that has been done already. An interrupted install is done again
from the start. Needs the standard library only: Debian's python3 may come without ensurepip, and
then pip's wheel is taken from the index, which is PyPI or what pip's own variables name.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import html
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = {"3.11": "py311.txt", "3.12": "py312.txt", "3.13": "py312.txt"}
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

PIP = "26.3"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
BUILD = "build.txt"


class InstallError(Exception):
    """One line for the user: what is wrong and what to do."""


def run(*command: str | Path, **options) -> None:
    """Run a command; raise InstallError when it fails (it has printed why)."""
    if subprocess.run([str(word) for word in command], cwd=ROOT, **options).returncode != 0:
        raise InstallError("failed for the reason above; the next call starts it again")


def wanted_state(folder: Path) -> dict[str, str]:
    """What a finished install of this checkout into `folder` writes down."""
    pins = ROOT / "requirements"
    inputs = [ROOT / "setup.py", pins / PINS[PYTHON], pins / BUILD, Path(__file__)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    return {"python": PYTHON, "folder": str(folder), "project": str(ROOT), "inputs": digest}


def prepare_folder(folder: Path, done: Path, busy: Path) -> None:
    """Leave an empty folder marked as ours; refuse one that this script did not make."""
    if folder.exists() and not folder.is_dir():
        raise InstallError(f"{folder} is not a folder: remove it, or choose another with VENV=DIR")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (done.exists() or busy.exists()):
        raise InstallError(
            f"{folder} holds something else: remove it, or choose another folder with VENV=DIR"
        )
    busy.touch()
    for path in folder.iterdir():
        if path != busy:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def public(url: str) -> str:
    """A URL without the name, password and query that it may hold, be it well formed or not."""
    return re.sub(r"^([\w+.-]+://)?.*@", r"\1", url).partition("?")[0]


def read_url(url: str) -> bytes:
    """What lies at a URL; the name and password in it are sent as a browser would."""
    headers = {}
    try:
        parts = urllib.parse.urlsplit(url)
        user, _, host = parts.netloc.rpartition("@")
        if user:
            basic = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
            headers["Authorization"] = f"Basic {basic}"
        bare = urllib.parse.urlunsplit(parts._replace(netloc=host))
        request = urllib.request.Request(bare, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        # All but OSError quote what they could not read.
        reason = error if isinstance(error, OSError) else type(error).__name__
        raise InstallError(f"cannot read {public(url)}: {reason}") from None


def add_pip(python: Path) -> None:
    """Give the environment pip: from ensurepip, or where that is missing from PyPI's wheel."""
    bundled = subprocess.run([str(python), "-m", "ensurepip"], capture_output=True)
    if bundled.returncode == 0:
        return
    print("This Python has no ensurepip: taking pip from the package index", flush=True)
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    name = f"pip-{PIP}-py3-none-any.whl"
    link = re.search(rf'href="([^"#]*{re.escape(name)})', read_url(index).decode())
    if link is None:
        raise InstallError(f"{public(index)} does not offer {name}")
    target = urllib.parse.urljoin(index, html.unescape(link[1]))
    content = read_url(target)
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        raise InstallError(f"{public(target)} is not the published file (its sha256 differs)")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = Path(scratch) / name
        wheel.write_bytes(content)
        run(python, wheel / "pip", "install", "--quiet", "--no-index", wheel)


def install_project(folder: Path) -> None:
    """Install the pinned packages and the project with uv (no compiler, no pip resolver)."""
    python, requirements = folder / "bin" / "python", ROOT / "requirements"
    pins, build = requirements / PINS[PYTHON], requirements / BUILD
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", build)
    settings = dict(os.environ)
    settings.setdefault("UV_HTTP_TIMEOUT", "300")  # seconds; the CUDA packages are large
    for ours, theirs in (  # uv does not read pip's settings
        ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
        ("UV_INDEX", "PIP_EXTRA_INDEX_URL"),
        ("SSL_CERT_FILE", "PIP_CERT"),
    ):
        if theirs in settings:
            settings.setdefault(ours, settings[theirs])
    uv = (
        *(folder / "bin" / "uv", "pip", "install", "--python", python, "--no-deps"),
        *("--build-constraints", pins, "--build-constraints", build),
        *("--index-strategy", "unsafe-best-match"),  # every index counts, as with pip
    )
    run(*uv, "--require-hashes", "--requirements", pins, env=settings)
    run(*uv, "--editable", ".", env=settings)


def install(folder: Path) -> None:
    """Bring the environment in `folder` up to date with this checkout."""
    if PYTHON not in PINS:
        raise InstallError(
            f"Python {PYTHON} does not fit: ESPnet needs {', '.join(PINS)}; "
            "choose one, as in: make test PYTHON=python3.12"
        )
    done, busy = folder / "installed.json", folder / "installing"
    state = wanted_state(folder)
    before = json.loads(done.read_text()) if done.exists() else {}
    if before and before["python"] != PYTHON:
        raise InstallError(
            f"{folder} was made by Python {before['python']}, not {PYTHON}: choose another folder, "
            f"as in VENV=.venv-{PYTHON}, or that Python, as in PYTHON=python{before['python']}"
        )
    if before == state and not busy.exists() and (folder / "bin" / "python").exists():
        return
    prepare_folder(folder, done, busy)
    print(f"Installing into {folder} (Python {PYTHON}): minutes, and 6 GB of disk", flush=True)
    venv.EnvBuilder(symlinks=True).create(folder)
    add_pip(folder / "bin" / "python")
    install_project(folder)
    busy.write_text(json.dumps(state))
    os.replace(busy, done)


def main() -> int:
    """Install under a lock, so that two calls at once do not meet in one folder."""
    folder = Path(os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv"))
    try:
        with open(__file__, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install(folder)
    except (InstallError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
