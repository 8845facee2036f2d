"""What rides along with a training, whatever the trainer: an entry here and a file each.

A training request names extras with their settings; the trainer writes them to a YAML file in the
experiment folder, and its process, which is another one, reads them back and wraps the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.training.extras.teacher import Teacher

FILE = "extras.yaml"


class Extra(Protocol):
    """What rides along with a training."""

    def wrap(self, model: SpeechModel) -> None:
        """Hook into `model` as ESPnet has just built it: without its adapter and its weights.

        Nothing that is put on the model may show in its parameters or its state dict, but
        counters, as buffers, so that a killed training resumes with them.

        Raises:
            ShrinkError: it does not fit the model.
        """


EXTRAS: dict[str, Callable[[Mapping[str, Any]], Extra]] = {"teacher": Teacher.of}
"""Name -> what makes the extra of its settings."""


def write_extras(exp: Path, extras: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """Write the extras of a request to its experiment folder; None: there are none."""
    path = exp / FILE
    if not extras:
        path.unlink(missing_ok=True)
        return None
    write_text(path, yaml.safe_dump({name: dict(given) for name, given in extras.items()}))
    return path


def read_extras(path: str | Path) -> list[Extra]:
    """The extras that `write_extras` wrote.

    Raises:
        ShrinkError: no such file, an extra that there is not, or wrong settings.
    """
    given = read_yaml(path)
    unknown = sorted(given.keys() - EXTRAS.keys(), key=str)
    if unknown:
        raise ShrinkError(f"{path}: unknown extra {unknown[0]}: choose of {', '.join(EXTRAS)}")
    return [EXTRAS[name](settings) for name, settings in given.items()]


def wrap_all(extras: Iterable[Extra], model: SpeechModel) -> None:
    """Wrap a model with every extra."""
    for extra in extras:
        extra.wrap(model)
