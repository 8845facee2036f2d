"""The lists of data that a training config names, seen as ESPnet's trainer would read them.

Facts used here:
- `kaldi_ark` lists are read by kaldiio (ESPnet 202611: omniio), which runs an entry, and the name
  of a list itself, as a shell command if it ends with `|`, also with an offset or a range behind
  it; it strips names, and unpacks lists called .gz.
- A kind is told by how its name begins: `kaldi_ark_x` is `kaldi_ark`.
- The kinds that libsndfile and numpy read take such an entry for the name of a file.
- With `multiple_iterator` the name is a folder of lists, split.1 and on.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.errors import ShrinkError

RUNS_PIPES = "kaldi_ark"
SCP = ("sound", "multi_columns_sound", "variable_columns_sound", "npy", RUNS_PIPES)


def check_data_lists(config: Mapping[str, Any]) -> None:
    """Refuse a training config whose data would be the output of a command.

    Raises:
        ShrinkError: an entry of a list, or a list, is a pipe.
    """
    for name, kind in _lists(config):
        if _is_pipe(name, kind):
            raise ShrinkError(
                f"{name!r} is to be read as {kind} data, and is a pipe: no command is run for "
                "data: write its output to files, and name their list"
            )
        if kind.startswith(SCP):
            for path in _files(Path(name.strip())):
                _check_list(path, kind)


def _lists(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, kind) of every list that the trainer opens."""
    for key, value in config.items():
        if key.endswith("data_path_and_name_and_type"):
            for entry in value or []:
                words = entry.split(",") if isinstance(entry, str) else entry
                if not isinstance(words, (list, tuple)) or len(words) != 3:
                    raise ShrinkError(f"{key}: {entry!r} is no [path, name, type]")
                yield str(words[0]), str(words[2])
        elif key in ("rir_scp", "noise_scp") and value:
            for path in value if isinstance(value, list) else [value]:
                yield str(path), "sound"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("split.*"))
    return [path] if path.is_file() else []  # what is missing is told elsewhere


def _check_list(path: Path, kind: str) -> None:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            lines = opened.readlines()
    except (OSError, EOFError, zlib.error) as error:
        raise ShrinkError(f"{path} cannot be read: {error}") from error
    for line in lines:
        if b"|" in line:
            name, entry = (*line.decode(errors="replace").split(maxsplit=1), "", "")[:2]
            if _is_pipe(entry or name, kind):
                raise ShrinkError(
                    f"{path}: {name} is a pipe: no command is run for data: format it first "
                    "(ESPnet's scripts/audio/format_wav_scp.sh does)"
                )


def _is_pipe(text: str, kind: str) -> bool:
    if kind.startswith(RUNS_PIPES):
        return "|" in text  # an offset or a range may follow
    return text.strip().startswith("|") or text.strip().endswith("|")
