"""Features of a data folder, computed once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import humanfriendly
import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import token_ids
from espnet_shrink.proxy.kaldi import Utterance, read_audio, read_folder


@dataclass(frozen=True)
class FeatureSet:
    """Utterances with what the encoder is given.

    Attributes:
        utterances: N of them.
        features: N normalised features, (frames, dims) each.
        tokens: N reference token sequences.
        seconds: N durations of the audio.
    """

    utterances: Sequence[Utterance]
    features: Sequence[torch.Tensor]
    tokens: Sequence[Sequence[int]]
    seconds: Sequence[float]

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all."""
        return sum(self.seconds)

    @property
    def references(self) -> list[str]:
        """The N reference texts."""
        return [utterance.text for utterance in self.utterances]

    def subset(self, names: set[str]) -> FeatureSet:
        """Only the utterances called `names`."""
        keep = [i for i, u in enumerate(self.utterances) if u.name in names]
        return FeatureSet(
            [self.utterances[i] for i in keep],
            [self.features[i] for i in keep],
            [self.tokens[i] for i in keep],
            [self.seconds[i] for i in keep],
        )


def sampling_rate_hz(loaded: LoadedModel) -> int:
    """The sampling rate that a model's frontend wants, in Hz."""
    return int(humanfriendly.parse_size(str(loaded.args.frontend_conf.get("fs", 16000))))


@torch.no_grad()
def extract(loaded: LoadedModel, folder: str | Path) -> FeatureSet:
    """Read a data folder and compute its features with the model's own frontend.

    Each utterance goes alone, as in ESPnet's inference: in a padded batch the last frames of
    the shorter ones would differ.

    Raises:
        ShrinkError: bad folder, audio or sampling rate.
    """
    utterances = read_folder(folder)
    rate_hz = sampling_rate_hz(loaded)
    to_ids = token_ids(loaded.task, loaded.args)
    model = loaded.model
    features, tokens, seconds = [], [], []
    for utterance in utterances:
        samples = torch.from_numpy(read_audio(utterance, rate_hz))
        seconds.append(len(samples) / rate_hz)
        lengths = torch.tensor([len(samples)])
        feats, feats_lengths = model._extract_feats(samples[None], lengths)
        if model.normalize is not None:
            feats, feats_lengths = model.normalize(feats, feats_lengths)
        features.append(feats[0, : int(feats_lengths[0])])
        tokens.append(to_ids(utterance.text))
    return FeatureSet(utterances, features, tokens, seconds)
