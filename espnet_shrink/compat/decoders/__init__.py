"""Greedy decoding of a padded batch, one file per kind of decoder.

Each kind has `greedy`, with the hypotheses of ESPnet's own search with a beam of one; `teach`, one
pass over a reference text, in which every weight is used as often as in decoding that text; and
`walk`, decoding as it goes if that text comes out of it: a step for every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from espnet_shrink.compat.decoders import (
    ctc,
    rnn,
    scorer,
    transducer,
    transformer,
    whisper,
)
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt
from espnet_shrink.errors import ShrinkError

Greedy = Callable[[Any, torch.Tensor, torch.Tensor, Sequence[Prompt]], list[list[int]]]
"""(model, encoded (B, T, D), lengths (B), B prompts) -> B sequences of token ids."""

Teach = Callable[[Any, torch.Tensor, torch.Tensor, Sequence[int]], None]
"""(model, encoded (1, T, D), lengths (1), tokens with the prompt's in front)."""


@dataclass(frozen=True)
class Decoder:
    """One way to get text out of a model.

    Attributes:
        name: "ctc", "attention" or "transducer".
    """

    name: str
    greedy: Greedy
    teach: Teach
    walk: Teach


def decoders_of(model: SpeechModel) -> list[Decoder]:
    """The ways in which a model of ESPnet's speech tasks can decode here."""
    found = []
    weight = getattr(model, "ctc_weight", 0.0)
    # In speech translation the CTC head writes the source language.
    translates = hasattr(model, "extra_asr_decoder")
    if getattr(model, "ctc", None) is not None and not translates and weight > 0.0:
        found.append(Decoder("ctc", ctc.greedy, ctc.teach, ctc.teach))
    decoder = getattr(model, "decoder", None)
    if getattr(model, "joint_network", None) is not None:
        found.append(Decoder("transducer", transducer.greedy, transducer.teach, transducer.walk))
    elif decoder is None or weight == 1.0:
        pass
    elif rnn.can_batch(decoder):
        found.append(Decoder("attention", rnn.greedy, scorer.teach, scorer.walk))
    elif transformer.takes_a_mask(decoder):
        found.append(Decoder("attention", transformer.greedy, scorer.teach, scorer.walk))
    elif whisper.is_whisper(decoder):
        found.append(Decoder("attention", whisper.greedy, scorer.teach, scorer.walk))
    # Mask-CTC inherits a `score` that it cannot do: its CTC head is scored.
    elif hasattr(decoder, "score") and type(decoder).__name__ != "MLMDecoder":
        found.append(Decoder("attention", scorer.greedy, scorer.teach, scorer.walk))
    return found


def check_decoders(loaded: LoadedModel) -> None:
    """Refuse what cannot be decoded here.

    Raises:
        ShrinkError: a language model, several encoders or speakers, or nothing that can be decoded
            greedily.
    """
    model, decoder = loaded.model, getattr(loaded.model, "decoder", None)
    if loaded.task.name == "lm":
        raise ShrinkError(
            f"{loaded.config} is a language model: plans are scored by recognition errors, so give "
            "a model that recognises speech"
        )
    for what, count in (
        ("num_inf", getattr(model, "num_inf", 1)),
        ("num_encs", getattr(decoder, "num_encs", 1)),
    ):
        if count > 1:
            raise ShrinkError(
                f"{loaded.config}: {what} is {count}: plans are scored by one text of one encoder "
                "output, so give a model of one speaker and one encoder"
            )
    if not decoders_of(model):
        raise ShrinkError(
            f"{loaded.config}: nothing in this model can be decoded greedily: it has no CTC "
            "head, attention decoder or transducer"
        )
