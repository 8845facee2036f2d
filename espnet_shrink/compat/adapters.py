"""Models that were adapted by ESPnet's own adapters, LoRA and Houlsby.

Facts used here:
- loralib keeps a layer's weight merged, W + B A alpha / rank, in eval mode, and ESPnet's trainer
  saves after validation, in eval mode: `weight` in a checkpoint is the merged one. ESPnet's
  inference builds the layers in eval mode and computes with `weight` alone. To add B A again
  would be wrong; without lora_A and lora_B the checkpoint is that of the plain model.
- `save_strategy` other than "all" leaves weights out that the adapter was put on.
- Houlsby adapters are layers of their own, with a nonlinearity, and merge into nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.compat.hooks import ADAPTER, ADAPTER_KEYS
from espnet_shrink.errors import ShrinkError

LORA = "lora"


def adapter_of(config: Mapping[str, Any]) -> str | None:
    """The adapter that a config.yaml puts on its model; None: none."""
    if config.get("use_lora"):  # of 202310 and before
        return LORA
    return str(config.get("adapter")) if config.get("use_adapter") else None


def without_lora(state: Mapping[str, Any]) -> dict[str, Any]:
    """The merged model's state dict, of one with LoRA."""
    return {key: value for key, value in state.items() if not _is_lora(key)}


def without_adapter(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the model that the adapter was put on, to be filled from a checkpoint."""
    kept = {key: value for key, value in config.items() if key not in ADAPTER_KEYS}
    return {**kept, "init": None}


def check_merged(state: Mapping[str, Any], config: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse a checkpoint that has a LoRA layer's adapter but not its weight.

    Raises:
        ShrinkError: with how to save one that has both.
    """
    weights = {f"{key.rpartition('.')[0]}.weight" for key in state if _is_lora(key)}
    if not weights <= state.keys():
        raise ShrinkError(
            f"{checkpoint} holds what LoRA trained (save_strategy: {config.get('save_strategy')}), "
            "and not the weights that it was put on: resume its training for one more epoch with "
            "--save_strategy all --resume true, which saves them merged"
        )


def check_adapter(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a model to compress whose adapter neither merges nor is ours.

    Raises:
        ShrinkError: by the adapter's name.
    """
    name = adapter_of(config)
    if name not in (None, LORA, ADAPTER):
        raise ShrinkError(
            f"{path} has {name} adapters, layers of their own that merge into no weight, and an "
            "ESPnet model can have but one kind of adapter: give the model without them, or one "
            "adapted by LoRA or fine-tuned whole"
        )


def _is_lora(key: str) -> bool:
    return key.endswith((".lora_A", ".lora_B"))
