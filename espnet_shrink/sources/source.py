"""What a model consists of, wherever it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from espnet_shrink.compat.models import find_model
from espnet_shrink.compat.named_files import named_files
from espnet_shrink.core.files import read_yaml

LM = "lm"
TREE = "packed"
RECORD = "source.yaml"


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        origin: what the user called it.
        config: config.yaml of the recogniser.
        checkpoint: its checkpoint.
        lm_config: config.yaml of the language model that was packed along, if any.
        lm_checkpoint: its checkpoint.
        files: files that the config names and that must be packed with the model: BPE model,
            feature statistics, list of symbols.
        documents: README and license that were packed along.
    """

    origin: str
    config: Path
    checkpoint: Path
    lm_config: Path | None
    lm_checkpoint: Path | None
    files: tuple[Path, ...]
    documents: tuple[Path, ...]


def source_at(origin: str, config: Path, checkpoint: Path) -> Source:
    """The source of which `config` and `checkpoint` are known."""
    folder = config.parent
    if (folder / RECORD).exists():  # made of an archive or a tag
        origin = str(read_yaml(folder / RECORD)["origin"])
    lm = folder / LM
    lm_config, lm_checkpoint = find_model(lm) if (lm / "config.yaml").exists() else (None, None)
    named = (Path(name) for _, name in named_files(read_yaml(config)))
    word = re.compile("(?i)(readme|licen[cs]e|notice)")
    documents = sorted(path for path in (folder / TREE).glob("*") if word.match(path.name))
    return Source(
        origin, config, checkpoint, lm_config, lm_checkpoint,
        tuple(path for path in named if path.exists()), tuple(documents),
    )  # fmt: skip
