"""Open the uncompressed model that a run begins with."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from espnet_shrink.compat.adapters import LORA, adapter_of, check_adapter
from espnet_shrink.compat.hooks import ADAPTER
from espnet_shrink.compat.models import LoadedModel, espnet_version, find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import check_weights
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.adapter import is_compressed
from espnet_shrink.version import __version__


def open_baseline(exp: str | Path, checkpoint: str | None = None) -> LoadedModel:
    """Load an uncompressed model.

    Raises:
        ShrinkError: no model, or one that is compressed already.
    """
    return open_model(*find_model(exp, checkpoint))


def open_model(config: Path, checkpoint: Path) -> LoadedModel:
    """Load an uncompressed model of which the files are known; raises as `open_baseline`.

    Says which checkpoint it is; LoRA is merged into the weights.
    """
    described = read_yaml(config)
    check_adapter(described, config)
    link = f" -> {checkpoint.readlink()}" if checkpoint.is_symlink() else ""
    merged = ", its LoRA merged into the weights" if adapter_of(described) == LORA else ""
    tqdm.write(f"model: {checkpoint}{link}{merged}")
    loaded = load_model(config, checkpoint)
    check_weights(loaded.model)
    if adapter_of(described) == ADAPTER and is_compressed(described["adapter_conf"]):
        raise ShrinkError(f"{config.parent} is compressed already: give the uncompressed model")
    return loaded


def made_with() -> dict[str, str]:
    """What a folder's results may depend on in their last digits."""
    return {"espnet": espnet_version(), "espnet_shrink": __version__}
