"""A model's weights as numbers: known by their digest, and refused if they are none."""

from __future__ import annotations

import hashlib

import torch

from espnet_shrink.errors import ShrinkError


def model_hash(model: torch.nn.Module) -> str:
    """SHA-256 over the names and values (as float32) of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        # One type: ESPnet's GlobalMVN turns its statistics from float64 to float32 at first use.
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def check_weights(model: torch.nn.Module) -> None:
    """Refuse a model that holds infinities or no numbers.

    Raises:
        ShrinkError: a parameter or buffer does; it is named.
    """
    for name, parameter in model.named_parameters():
        check_finite(name, parameter)
    for name, buffer in model.named_buffers():
        if buffer.isnan().any():  # infinities may be masks
            check_finite(name, buffer)


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse a weight that holds infinities or no numbers.

    Raises:
        ShrinkError: it does; its name is told.
    """
    if not weight.isfinite().all():
        raise ShrinkError(
            f"{name} holds values that are not finite: the training diverged, "
            "take an earlier checkpoint"
        )
