"""Products with a weight outside of its module."""

from __future__ import annotations

from torch import nn


def output_products(model: nn.Module) -> dict[str, str]:
    """Path of a module -> that of the embedding whose table its output is multiplied with.

    Whisper's decoder does so to score tokens.
    """
    return {
        f"{path}.decoders.ln": f"{path}.decoders.token_embedding"
        for path, module in model.named_modules()
        if type(module).__name__ == "OpenAIWhisperDecoder"
    }
