"""A model that a run works on, and what is found of it: each once, when it is first asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet, extract, extract_all
from espnet_shrink.data.kaldi import Utterance
from espnet_shrink.data.moment_data import training_recordings
from espnet_shrink.methods.base import Method, Prepared
from espnet_shrink.methods.registry import method_of
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.plan import CostModel, Decision, Survey
from espnet_shrink.search.settings import SearchSettings


@dataclass(frozen=True)
class Subject:
    """An uncompressed model, its data, and how it is searched.

    Attributes:
        dev: the set on which the best plans are scored, and the model.
        proxy_folder: of the utterances on which all of them are.
        train_keys: keys of a training config that name the audio by whose activations parts of
            the model are weighed; where they name none, the model's own config does.
        given: such recordings themselves, known already.
    """

    dev: Heard
    proxy_folder: Path
    search: SearchSettings
    train_keys: Callable[[], Mapping[str, Any]] = dict
    given: Sequence[Utterance] | None = None

    def after(self, loaded: LoadedModel) -> Subject:
        """The same for the model as a round has left it."""
        dev = Heard(loaded, self.dev.folder)
        return dataclasses.replace(self, dev=dev, given=self.recordings)

    @property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self.dev.loaded

    @functools.cached_property
    def method(self) -> Method:
        """How it is made small."""
        return method_of(self.search.method)

    @functools.cached_property
    def survey(self) -> Survey[Decision]:
        """What can be decided on in it."""
        return self.method.survey(self.loaded.model)

    @functools.cached_property
    def proxy(self) -> FeatureSet:
        """The proxy set as it hears it; the error rate that decides is that of the dev set."""
        return extract(self.loaded, self.proxy_folder).decided_by(self.dev.features.metric)

    @functools.cached_property
    def recordings(self) -> Sequence[Utterance]:
        """Training audio that is heard beside the proxy set; none where there is none."""
        if self.given is not None:
            return self.given
        count = len(self.proxy.utterances)
        return training_recordings(self.loaded, self.train_keys(), count, self.search)

    @functools.cached_property
    def prepared(self) -> Prepared:
        """Priced, and worked out so that any plan is cheap."""
        heard = extract_all(self.loaded, self.recordings) if self.recordings else None
        settings = dataclasses.asdict(self.search)
        return self.method.prepare(self.loaded, self.proxy, heard, settings)

    @property
    def prices(self) -> CostModel:
        """Of its plans."""
        return self.prepared.cost_model
