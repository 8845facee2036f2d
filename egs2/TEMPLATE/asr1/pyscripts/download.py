#!/usr/bin/env python3
"""Fetch a model of ESPnet's model zoo: download.py NAME FOLDER.

Links config.yaml and the checkpoint (under its own name, and as model.pth) into FOLDER, and those
of a language model, if there is one, into FOLDER/lm.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_dir import fail


def link(target: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(Path(target).resolve())


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    try:
        from espnet_model_zoo.downloader import ModelDownloader
    except ImportError:
        fail("--download_model needs the package espnet_model_zoo: pip install espnet_model_zoo")
    try:
        files = ModelDownloader().download_and_unpack(name)
    # The downloader raises errors of several libraries: any of them is the user's to see.
    except Exception as error:
        fail(f"{name} could not be downloaded: {str(error).strip().splitlines()[0]}")
    for place, config, model in (
        (folder, "asr_train_config", "asr_model_file"),
        (folder / "lm", "lm_train_config", "lm_file"),
    ):
        if config in files and model in files:
            link(files[config], place / "config.yaml")
            link(files[model], place / Path(files[model]).name)
            link(files[model], place / "model.pth")


if __name__ == "__main__":
    main()
