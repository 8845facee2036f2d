#!/usr/bin/env python3
"""Print the files, beside the weights, that a config.yaml needs to decode, one on each line.

They are those that ESPnet's stage 14 packs. It knows them from the options of the training, which
a model trained by another recipe does not bring along; its config.yaml names them.
"""

import argparse
import sys
from pathlib import Path

import yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    config = yaml.safe_load(parser.parse_args().config.read_text(encoding="utf-8"))
    normalize = config.get("normalize_conf") or {}
    for name in (config.get("bpemodel"), config.get("non_linguistic_symbols"),
                 normalize.get("stats_file")):  # fmt: skip
        if name in (None, "none"):
            continue
        if not Path(name).exists():
            print(f"packed_files.py: no such file: {name}, named in the config", file=sys.stderr)
            sys.exit(2)
        print(name)


if __name__ == "__main__":
    main()
