"""From features to encoder output, through the model's own code."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from espnet_shrink.compat.speech_model import SpeechModel

# Convolutions that subsample let padding into the last frames of the shorter utterances.
EXACT_IN_BATCHES = {"RNNEncoder"}


def features_of(
    model: SpeechModel, samples: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio (B, N), (B,) to what the encoder is given: normalised features, or the audio itself."""
    features, lengths = model._extract_feats(samples, lengths)
    if model.normalize is not None:
        features, lengths = model.normalize(features, lengths)
    return features, lengths


def encode(
    model: SpeechModel, features: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B, T, ...), (B,) of `features_of` to encoder output (B, T', D) and (B,)."""
    encoded, lengths = past_the_frontend(model).encode(features, lengths)
    if isinstance(encoded, tuple):  # intermediate CTC outputs ride along
        encoded = encoded[0]
    return encoded, lengths


def encode_batch(
    model: SpeechModel, features: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """B features (T, ...) to encoder output (B, T', D), padded, and (B,).

    Every utterance comes out as if it were alone.
    """
    if type(model.encoder).__name__ in EXACT_IN_BATCHES:
        lengths = torch.tensor([len(feature) for feature in features])
        return encode(model, pad_sequence(list(features), batch_first=True), lengths)
    alone = [encode(model, f[None], torch.tensor([len(f)]))[0][0] for f in features]
    return pad_sequence(alone, batch_first=True), torch.tensor([len(e) for e in alone])


def behind_the_encoder(model: SpeechModel) -> tuple[str, ...]:
    """What the names of weights start with that no encoder output depends on."""
    parts = ["decoder.", "joint_network."]
    # Self-conditioned CTC feeds its intermediate predictions back into the encoder.
    if not getattr(model.encoder, "interctc_use_conditioning", False):
        parts.append("ctc.")
    return tuple(parts)


def past_the_frontend(model: SpeechModel) -> Any:
    """The same model, whose `encode` is given features in place of audio."""
    view: Any = copy.copy(model)
    view._modules = {**model._modules, "specaug": None, "normalize": None}
    view._extract_feats = lambda features, lengths: (features, lengths)
    return view
