"""The file that holds a trained model, by the criterion that its config chose the best epochs by.

ESPnet leaves, for every criterion, PHASE.NAME.ave.pth (a link to PHASE.NAME.ave_Nbest.pth, the
average of the N best epochs) and PHASE.NAME.best.pth; ESPnet3 PHASE.NAME.ave_Nbest.pth and
epochE_stepS_PHASE.NAME.ckpt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What ESPnet's decoding scripts take of a recogniser and of a language model.
USUAL = ("valid.acc", "valid.loss")
LATEST = "latest.pth"


def criteria(config: Mapping[str, Any]) -> list[str]:
    """PHASE.NAME of the criteria of a config.yaml, the one to decode with first.

    ESPnet's default names four; of several the usual one comes first, then those of validation.
    """
    given = config.get("best_model_criterion")
    names = [_name(entry) for entry in given] if isinstance(given, (list, tuple)) else []
    found = dict.fromkeys(name for name in names if name)
    return sorted(found, key=lambda name: (name != USUAL[0], not name.startswith("valid.")))


def _name(entry: Any) -> str:
    match entry:
        case [str(phase), str(key), str()]:
            return f"{phase}.{key}"
        case [str(monitor), _, str()]:  # ESPnet3's ["valid/acc", 3, "max"]
            return monitor.replace("/", ".")
    return ""


def model_name(config: Mapping[str, Any]) -> str:
    """The file that a training by `config` leaves its model in."""
    return f"{(criteria(config) or USUAL)[0]}.ave.pth"


def chosen(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The model in an experiment folder, or None; it may be a link to nothing.

    The first criterion of the config that left a file; if none did (a model that was copied, or
    unpacked from an archive), the usual ones; then the last epoch.
    """
    names = dict.fromkeys([*criteria(config), *USUAL])
    found = next((path for name in names for path in _files(folder, name)), None)
    latest = folder / LATEST
    return found or (latest if _is_there(latest) else None)


def _files(folder: Path, criterion: str) -> Iterator[Path]:
    """What a criterion left: the average of most epochs first, then the single best one."""
    averages, single = [], []
    pattern = re.compile(
        rf"(?:epoch(\d+)_step\d+_)?{re.escape(criterion)}\.(?:ave_(\d+)best\.pth|ckpt)"
    )
    for path in folder.iterdir():
        name = pattern.fullmatch(path.name)
        if name and name.group(2):
            averages.append((int(name.group(2)), path))
        elif name:
            single.append((int(name.group(1) or 0), path))
    yield from filter(_is_there, [folder / f"{criterion}.ave.pth"])
    yield from (path for _, path in sorted(averages, reverse=True))
    yield from filter(_is_there, [folder / f"{criterion}.best.pth"])
    yield from (path for _, path in sorted(single, reverse=True))


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()
