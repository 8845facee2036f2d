#!/usr/bin/env python3
"""Print, for each experiment folder, the name of the checkpoint that its own config chooses.

With --checkpoint NAME that file is taken wherever it is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from corpus_io import run

from espnet_shrink.compat.models import find_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="", help="such as valid.acc.best.pth")
    parser.add_argument("exp", nargs="+", type=Path)
    args = parser.parse_args()
    for exp in args.exp:
        given = args.checkpoint if (exp / args.checkpoint).is_file() else None
        print(find_model(exp, given)[1].name)


if __name__ == "__main__":
    run(main)
