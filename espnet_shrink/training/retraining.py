"""What a retraining depends on besides the settings of the rounds, known before it begins."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import recorded
from espnet_shrink.data.digest import data_digest, tables_digest
from espnet_shrink.training.preflight import check_retraining
from espnet_shrink.training.rounds_settings import RoundsSettings

DATA_KEYS = ("train_data_path_and_name_and_type", "valid_data_path_and_name_and_type")


@dataclass(frozen=True)
class Retraining:
    """A trainer, and its data.

    Attributes:
        trainer: its name, for the record: "espnet2" or "espnet3".
        content: digest of what it trains on.
        keys: the config keys that name its data, with the `train` section of the rounds preset;
            made when they are first needed, and refuses data that does not fit.
    """

    trainer: str
    content: str
    keys: Callable[[], Mapping[str, Any]]


def espnet2_retraining(
    loaded: LoadedModel,
    train: Path | None,
    valid: Path,
    out: Path,
    settings: RoundsSettings,
    ngpu: int,
) -> Retraining:
    """With ESPnet's own trainer, on the data that `training_data` finds.

    Args:
        out: folder of the rounds; shapes are written to `out`/train_data.

    Raises:
        ShrinkError: no such folder.
    """
    known = str(recorded(out).get("training_data_content", ""))
    if train is not None:
        content = data_digest(train, known)
    else:
        named: list[Any] = []
        for key in DATA_KEYS:
            named += settings.train.get(key) or getattr(loaded.args, key, None) or []
        content = tables_digest(named, known)

    @functools.cache
    def keys() -> dict[str, Any]:
        data = check_retraining(loaded, train, valid, out, settings, ngpu)
        return data.write(out / "train_data")

    return Retraining("espnet2", content, keys)
