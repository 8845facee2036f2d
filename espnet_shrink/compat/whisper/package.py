"""What ESPnet expects of the package whisper, put there when it is imported.

Facts used here (ESPnet 202511 and 202611, openai-whisper 20250625):
- ESPnet's encoder imports `whisper.audio.N_MELS`, which the package dropped in November 2023.
- ESPnet's tokenizers use the attribute `tokenizer` of the package's, dropped in March 2023.
- ESPnet's encoder and decoder call `whisper.load_model` for a name in `whisper.available_models()`,
  and keep the encoder or the decoder of what they get.
"""

from __future__ import annotations

import functools
from typing import Any

from espnet_shrink.compat.whisper.sizes import sizes_of
from espnet_shrink.compat.whisper.tokenizer import Gpt2Tokenizer

N_MELS = 80  # of all models but large-v3 and turbo, which ESPnet's encoder cannot be


def fit(whisper: Any) -> None:
    """Add what ESPnet expects and the package lacks; and models that are named by their sizes."""
    if not hasattr(whisper.audio, "N_MELS"):
        whisper.audio.N_MELS = N_MELS
    own = whisper.tokenizer.Tokenizer
    if "tokenizer" not in getattr(own, "__dataclass_fields__", {}):
        made = functools.cached_property(lambda self: Gpt2Tokenizer(self.encoding))
        made.__set_name__(own, "tokenizer")
        own.tokenizer = made
    load_model, available_models = whisper.load_model, whisper.available_models

    @functools.wraps(load_model)
    def load(name: str, *args: Any, **kwargs: Any) -> Any:
        sizes = sizes_of(name)
        if sizes is None:
            return load_model(name, *args, **kwargs)
        model = whisper.model.Whisper(whisper.model.ModelDimensions(**sizes))
        model.decoder.positional_embedding.data.normal_(std=0.01)  # left unset by the package
        return model

    @functools.wraps(available_models)
    def available() -> list[str]:
        return _Names(available_models())

    whisper.load_model, whisper.available_models = load, available


class _Names(list[str]):
    """Of OpenAI's models, and all that tell sizes."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or sizes_of(name) is not None
