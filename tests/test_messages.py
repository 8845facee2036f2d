"""What the library says is for users of the library."""

import ast
import re
from pathlib import Path

import espnet_shrink

PACKAGE = Path(espnet_shrink.__file__).parent
# ESPnet3 calls its own steps stages.
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if "espnet3" not in p.relative_to(PACKAGE).parts]


def texts(path: Path) -> list[str]:
    """Every string in a module, docstrings and parts of f-strings too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str]


def test_no_message_speaks_of_stages_of_a_recipe():
    numbered = re.compile(r"\bstages?\s+\d", re.IGNORECASE)
    found = [(p.name, t) for p in FILES for t in texts(p) if numbered.search(t)]
    assert len(FILES) > 100 and found == []
