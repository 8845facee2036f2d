"""Features of a data folder, computed once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import humanfriendly
import numpy as np
import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import text_codec
from espnet_shrink.errors import ShrinkError
from espnet_shrink.proxy.encoder import features_of
from espnet_shrink.proxy.kaldi import Utterance, read_audio, read_folder


@dataclass(frozen=True)
class FeatureSet:
    """Utterances with what the encoder is given.

    Attributes:
        utterances: N of them; none of noise.
        features: N normalised features, (frames, dims) each, or audio where the model has no
            frontend.
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

    def first(self, count: int) -> FeatureSet:
        """Only the first `count` utterances."""
        return self._take(range(min(count, len(self.seconds))))

    def spread(self, count: int) -> FeatureSet:
        """At most `count` utterances, from the shortest to the longest in equal strides."""
        order = np.argsort(self.seconds, kind="stable")
        strides = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
        return self._take(sorted(order[strides].tolist()))

    def subset(self, names: set[str]) -> FeatureSet:
        """Only the utterances called `names`."""
        return self._take([i for i, u in enumerate(self.utterances) if u.name in names])

    def _take(self, keep: Sequence[int]) -> FeatureSet:
        return FeatureSet(
            [self.utterances[i] for i in keep if self.utterances],
            [self.features[i] for i in keep],
            [self.tokens[i] for i in keep],
            [self.seconds[i] for i in keep],
        )


def extract(loaded: LoadedModel, folder: str | Path) -> FeatureSet:
    """Read a data folder and compute its features with the model's own frontend.

    Raises:
        ShrinkError: as `extract_all`, and if the folder is bad.
    """
    _check_task(loaded)
    return extract_all(loaded, read_folder(folder))


@torch.no_grad()
def extract_all(loaded: LoadedModel, utterances: Sequence[Utterance]) -> FeatureSet:
    """Features of utterances, by the model's own frontend.

    Each utterance goes alone, as in ESPnet's inference: in a padded batch the last frames of
    the shorter ones would differ.

    Raises:
        ShrinkError: a language model; bad audio or sampling rate.
    """
    _check_task(loaded)
    rate_hz = sampling_rate_hz(loaded)
    codec = text_codec(loaded)
    features, tokens, seconds = [], [], []
    for utterance in utterances:
        samples = torch.from_numpy(read_audio(utterance, rate_hz))
        seconds.append(len(samples) / rate_hz)
        features.append(encoder_input(loaded, samples))
        tokens.append(codec.to_ids(utterance.text))
    return FeatureSet(utterances, features, tokens, seconds)


def _check_task(loaded: LoadedModel) -> None:
    if loaded.task.name == "lm":
        raise ShrinkError(
            f"{loaded.config} is a language model: plans are scored by recognition errors, so give "
            "a model that recognises speech"
        )


def sampling_rate_hz(loaded: LoadedModel) -> int:
    """The sampling rate that a model's frontend wants."""
    conf = getattr(loaded.args, "frontend_conf", None) or {}
    return int(humanfriendly.parse_size(str(conf.get("fs", 16000))))


def fixed_length_s(loaded: LoadedModel) -> float | None:
    """Seconds of the one length of audio that a speech-to-text (OWSM) model knows; None of others.

    What is shorter is padded and what is longer is cut.
    """
    if loaded.task.name != "s2t":
        return None
    conf = getattr(loaded.args, "preprocessor_conf", None) or {}
    return float(conf.get("speech_length", 30))


@torch.no_grad()
def encoder_input(loaded: LoadedModel, samples: torch.Tensor) -> torch.Tensor:
    """Audio (N,) to what the encoder is given: features (frames, dims), or audio, as in training.

    A model without a frontend whose data is features may be given those, (N, dims).
    """
    seconds = fixed_length_s(loaded)
    if seconds is not None:
        length = int(seconds * sampling_rate_hz(loaded))
        samples = torch.nn.functional.pad(samples, (0, max(0, length - len(samples))))[:length]
    given, lengths = features_of(loaded.model, samples[None], torch.tensor([len(samples)]))
    return given[0, : int(lengths[0])]
