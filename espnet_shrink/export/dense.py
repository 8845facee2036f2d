"""A compressed model as a plain ESPnet model: needs no plugin, and is as large as before."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from espnet_shrink.compat.hooks import ADAPTER_KEYS
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.checkpoints import stored_like, write_checkpoint
from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.folder import export_folder
from espnet_shrink.methods.lowrank.build import fold, plan_of


def export_dense(loaded: LoadedModel, out: Path) -> Path:
    """Multiply the factors out and write `out`/config.yaml and the checkpoint; gives its path.

    Paths in the config stay as they are: relative to the recipe folder.

    Raises:
        ShrinkError: the model is not compressed, or `out` holds something else.
    """
    if not plan_of(loaded.model).factored:
        raise ShrinkError(f"{loaded.config} is not compressed: it is a plain ESPnet model already")
    checkpoint = out / loaded.checkpoint.name
    with export_folder(out, loaded, "dense"):
        if not (out / "config.yaml").exists():
            model = copy.deepcopy(loaded.model)
            fold(model)
            write_checkpoint(checkpoint, stored_like(model.state_dict(), loaded.checkpoint))
            config = read_yaml(loaded.config)
            plain = {key: value for key, value in config.items() if key not in ADAPTER_KEYS}
            write_text(out / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
    return checkpoint
