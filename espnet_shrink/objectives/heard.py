"""A data folder as a model hears it: read and decoded once, when that is first asked for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.objectives.decode_set import Decoded, decode_set, fewest_errors
from espnet_shrink.objectives.doubt import doubt
from espnet_shrink.objectives.score import Scorer


@dataclass(frozen=True)
class Heard:
    """A Kaldi-style folder with texts, and the model that hears it.

    Raises:
        ShrinkError: bad data, as its attributes are first read.
    """

    loaded: LoadedModel
    folder: Path

    @functools.cached_property
    def features(self) -> FeatureSet:
        """What the model's encoder is given."""
        return extract(self.loaded, self.folder)

    @functools.cached_property
    def decoded(self) -> Decoded:
        """By every decoder, greedily; hopeless errors are told."""
        found = decode_set(Scorer(self.loaded, self.features))
        doubt(self.loaded, self.features, found.texts)
        return found

    @functools.cached_property
    def best_decoder(self) -> str:
        """That with the fewest errors."""
        return fewest_errors(self.decoded.texts, self.features)
