"""Features of a data folder, computed once and kept in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import humanfriendly
import numpy as np
import torch

from espnet_shrink.compat.decoders import check_decoders
from espnet_shrink.compat.encoder import features_of
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.compat.text import Prompt, text_codec
from espnet_shrink.data.kaldi import (
    Utterance,
    evenly_spaced,
    read_audio,
    read_folder,
)
from espnet_shrink.data.metric import Metric, metric_of
from espnet_shrink.data.short import empty_too_short, frontend_output
from espnet_shrink.errors import ShrinkError, working_on


@dataclass(frozen=True)
class FeatureSet:
    """Utterances with what the encoder is given.

    Attributes:
        utterances: N of them; none of noise.
        features: N normalised features, (frames, dims) each, or audio where the model has no
            frontend; without frames where an utterance is too short for the model.
        tokens: N reference token sequences.
        seconds: N durations of the audio.
        references: N reference texts, as they are scored: cleaned, without tags.
        metric: the error rate that decides on such texts.
        prompts: N, what decoding starts from.
    """

    utterances: Sequence[Utterance]
    features: Sequence[torch.Tensor]
    tokens: Sequence[Sequence[int]]
    seconds: Sequence[float]
    references: Sequence[str] = ()
    metric: Metric = "wer"
    prompts: Sequence[Prompt] = ()

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all."""
        return sum(self.seconds)

    def first(self, count: int) -> FeatureSet:
        """Only the first `count` utterances."""
        return self._at(range(min(count, len(self.features))))

    def spread(self, count: int) -> FeatureSet:
        """At most `count` utterances, from the shortest to the longest in equal strides."""
        order = np.argsort(self.seconds, kind="stable")
        strides = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
        return self._at(sorted(order[strides].tolist()))

    def heard(self) -> FeatureSet:
        """Only the utterances that are long enough for the model.

        Raises:
            ShrinkError: there is none.
        """
        if all(map(len, self.features)):
            return self
        pairs = zip(self.utterances, self.features, strict=True)
        names = {utterance.name for utterance, feature in pairs if len(feature)}
        if not names:
            raise ShrinkError(
                f"all utterances (first: {self.utterances[0].name}) are too short for the model: "
                "give longer ones"
            )
        return self.subset(names)

    def subset(self, names: set[str]) -> FeatureSet:
        """Only the utterances called `names`."""
        return self._at([i for i, u in enumerate(self.utterances) if u.name in names])

    def decided_by(self, metric: Metric) -> FeatureSet:
        """The same, with the error rate that another set has chosen for the whole run."""
        return dataclasses.replace(self, metric=metric)

    def _at(self, keep: Sequence[int]) -> FeatureSet:
        def of(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in keep] if values else []

        return FeatureSet(
            of(self.utterances), of(self.features), of(self.tokens), of(self.seconds),
            of(self.references), self.metric, of(self.prompts),
        )  # fmt: skip


def extract(loaded: LoadedModel, folder: str | Path) -> FeatureSet:
    """Read a data folder and compute its features with the model's own frontend.

    Raises:
        ShrinkError: as `extract_all`, and if the folder is bad.
    """
    check_decoders(loaded)
    return extract_all(loaded, read_folder(folder))


@torch.no_grad()
def extract_all(loaded: LoadedModel, utterances: Sequence[Utterance]) -> FeatureSet:
    """Features of utterances, by the model's own frontend.

    Each utterance goes alone, as in ESPnet's inference: in a padded batch the last frames of
    the shorter ones would differ.

    Raises:
        ShrinkError: nothing that can be decoded; no tokenizer; bad audio, sampling rate, text or
            tags; nothing long enough.
    """
    check_decoders(loaded)
    with working_on(f"{loaded.config}: its tokenizer"):
        codec = text_codec(loaded)
    texts = scored_texts(vars(loaded.args), loaded.config)
    wanted = []
    for utterance in utterances:
        with working_on(f"tokens of {utterance.name}, {utterance.text!r}"):
            wanted.append(codec.reference(utterance.text))
    references = [evenly_spaced(texts.reference(utterance.text)) for utterance in utterances]
    if not any(references):
        raise ShrinkError(
            f"nothing is left of any text once {loaded.config} has cleaned it: "
            "give texts in the language of the model"
        )
    features, seconds = _features(loaded, utterances)
    return FeatureSet(
        utterances, features, [r.tokens for r in wanted], seconds, references,
        metric_of(references), [r.prompt for r in wanted],
    )  # fmt: skip


@torch.no_grad()
def extract_recordings(loaded: LoadedModel, utterances: Sequence[Utterance]) -> FeatureSet:
    """The same of utterances without a text, to be decoded: there are no tokens and references.

    Raises:
        ShrinkError: as `extract_all`, as far as it is about audio.
    """
    check_decoders(loaded)
    with working_on(f"{loaded.config}: its tokenizer"):
        prompt = text_codec(loaded).reference("").prompt
    features, seconds = _features(loaded, utterances)
    return FeatureSet(utterances, features, [], seconds, prompts=[prompt] * len(utterances))


def _features(
    loaded: LoadedModel, utterances: Sequence[Utterance]
) -> tuple[list[torch.Tensor], list[float]]:
    rate_hz = sampling_rate_hz(loaded)
    features, seconds = [], []
    for utterance in utterances:
        samples = torch.from_numpy(read_audio(utterance, rate_hz))
        seconds.append(len(samples) / rate_hz)
        features.append(
            frontend_output(lambda x: encoder_input(loaded, x), samples, rate_hz, utterance)
        )
    return empty_too_short(loaded.model, utterances, features, rate_hz), seconds


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
