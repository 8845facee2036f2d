"""The sizes of a Whisper model, as a name.

ESPnet's Whisper classes build what `whisper_model:` of a config names, with OpenAI's weights, which
they download; a checkpoint then replaces these. `whisper_model: whisper(n_mels=80, ...)` needs
neither weights nor a network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SIZES = (
    "n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer",
    "n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer",
)  # fmt: skip


def name_of(sizes: Mapping[str, int]) -> str:
    """The name of a model of these sizes (OpenAI's `dims`)."""
    return f"whisper({', '.join(f'{key}={int(sizes[key])}' for key in SIZES)})"


def sizes_of(name: object) -> dict[str, int] | None:
    """The sizes that a name tells; None: it is no such name."""
    found = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", str(name))}
    return found if set(found) == set(SIZES) and name == name_of(found) else None
