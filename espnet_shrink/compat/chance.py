"""What ESPnet's modules leave to chance even in eval mode."""

from __future__ import annotations

from torch import nn


def leave_nothing_to_chance(model: nn.Module) -> None:
    """Put `model` into eval mode, and what is random even there to 0."""
    for module in model.eval().modules():
        if type(module).__name__ == "RNNP":
            module.dropout = 0.0  # type: ignore[assignment]
        if hasattr(module, "sampling_probability"):
            module.sampling_probability = 0.0  # type: ignore[assignment]
