"""How large a model is once ESPnet has quantised it dynamically (`--quantize_asr_model true`)."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from espnet_shrink.layers.int8 import Int8LowRankLSTM

# What the recipe passes to ESPnet's inference, and the same for torch.
INFERENCE_ARGS = "--quantize_asr_model true --quantize_modules Linear LSTM --quantize_dtype qint8"
MODULES = {torch.nn.Linear, torch.nn.LSTM}


@dataclass(frozen=True)
class QuantisedSizes:
    """MiB of one model.

    Attributes:
        int8_mib: 8-bit weights with their scales and zero points, in memory.
        float_mib: everything that stayed as it was: cells, biases, embeddings, convolutions,
            norms, statistics; what modules share once. A Linear that shared its weight has a
            quantised one of its own.
        disk_mib: torch.save of the state dict.
    """

    int8_mib: float
    float_mib: float
    disk_mib: float

    @property
    def memory_mib(self) -> float:
        """All weights in memory."""
        return self.int8_mib + self.float_mib


def quantise(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of `model` as ESPnet's inference quantises it: Linear and LSTM modules to int8.

    LowRankLinear consists of two Linears and goes along; LowRankLSTM becomes Int8LowRankLSTM.
    Cells stay float.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of what ESPnet uses
        quantised: torch.nn.Module = torch.ao.quantization.quantize_dynamic(
            model, qconfig_spec=MODULES, dtype=torch.qint8
        )
    return quantised


def quantised_sizes(model: torch.nn.Module) -> QuantisedSizes:
    """Quantise a copy of `model` and weigh it."""
    quantised = quantise(model)
    int8, floating = 0, 0
    counted: set[int] = set()
    for module in quantised.modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, x in own:
            place = x.untyped_storage().data_ptr()
            if place in counted:  # tied
                continue
            counted.add(place)
            size = x.numel() * x.element_size()
            if isinstance(module, Int8LowRankLSTM) and name.startswith("weight"):
                int8 += size
            else:
                floating += size
        for x in _packed(module):
            if x.is_quantized:
                int8 += x.numel() + _scales_bytes(x)
            else:
                floating += x.numel() * x.element_size()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(quantised.state_dict(), file)
    return QuantisedSizes(int8 / 2**20, floating / 2**20, file.tell() / 2**20)


def _packed(module: Any) -> list[torch.Tensor]:
    """Weights and biases that a quantised module keeps packed, out of `parameters()`."""
    if isinstance(module, torch.ao.nn.quantized.dynamic.Linear):
        weight, bias = module._weight_bias()
        return [weight] if bias is None else [weight, bias]
    if isinstance(module, torch.ao.nn.quantized.dynamic.LSTM):
        return [*module.get_weight().values(), *module.get_bias().values()]
    return []


def _scales_bytes(x: torch.Tensor) -> int:
    """A float64 scale and an int64 zero point for each tensor or channel."""
    per_channel = x.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
    return 16 * (len(x.q_per_channel_scales()) if per_channel else 1)
