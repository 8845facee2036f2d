"""Imports run one way, from the top of the list down; only compat knows ESPnet."""

import ast
from pathlib import Path

import pytest

import espnet_shrink

HOUSE = Path(espnet_shrink.__file__).parent

# From the ground up: a room imports from rooms before it.
ROOMS = [
    "errors", "version", "core", "plan", "layers", "compat", "data", "methods", "objectives",
    "search", "training", "sources", "report", "export", "presets", "pipeline", "espnet3",
    "recipe", "cli", "run",
]  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


FILES = sorted(p for p in HOUSE.rglob("*.py") if "recipe_files" not in p.parts)


def test_every_room_is_in_the_list():
    assert {room(p) for p in FILES} == {*ROOMS, "__init__"}
    assert sum(p.parent == HOUSE for p in FILES) <= 6  # modules at the top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_no_import_runs_upward(path):
    own = room(path)
    if own == "__init__":  # tells ESPnet, whenever it is imported, who builds
        return
    for name in imports(path):
        if name.startswith("espnet_shrink."):
            other = name.split(".")[1]
            assert ROOMS.index(other) <= ROOMS.index(own), f"{own} imports {name}"


def test_only_compat_imports_espnet():
    knowing = {
        room(path)
        for path in FILES
        for name in imports(path)
        if name.split(".")[0] in ("espnet", "espnet2", "espnet3", "espnetez", "espnet_model_zoo")
    }
    assert knowing <= {"compat"}


def test_files_fit_one_sitting():
    long = {
        p.name: n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 460
    }
    assert not long
