#!/usr/bin/env python3
"""Print all results below an experiment folder as Markdown tables, in ESPnet's manner."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from data_dir import fail

HEAD = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|"


def git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "not a git checkout"


def environment() -> str:
    return f"""# RESULTS
## Environments
- date: `{time.ctime()}`
- python version: `{sys.version}`
- espnet version: `espnet {version("espnet")}`
- pytorch version: `pytorch {version("torch")}`
- Git hash: `{git("rev-parse", "HEAD")}`
  - Commit date: `{git("log", "-1", "--format=%cd")}`
"""


def row(result: Path, name: str) -> str:
    """Return the summing-up line of a result.txt as a table row."""
    for line in result.read_text(encoding="utf-8").splitlines():
        if line.startswith("| Sum/Avg"):
            return f"|{name}|{'|'.join(line.replace('|', ' ').split()[1:])}|"
    fail(f"{result} has no line of averages: run stage 13 again")


def main() -> None:
    folder = Path(sys.argv[1])
    print(environment())
    print(f"## {folder}")
    for kind in ("wer", "cer", "ter"):
        results = sorted(folder.glob(f"*/**/score_{kind}/result.txt"))
        if results:
            print(f"### {kind.upper()}\n\n{HEAD}")
            for result in results:
                print(row(result, str(result.parent.parent.relative_to(folder))))
            print()


if __name__ == "__main__":
    main()
