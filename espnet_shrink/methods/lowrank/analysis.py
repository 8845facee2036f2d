"""What a search must know of a model: its sites, their spectra, and what each weight costs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from espnet_shrink.compat.decoders import decoders_of
from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.models import LoadedModel, espnet_version
from espnet_shrink.core.weights import check_weights
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.errors import working_on
from espnet_shrink.methods.lowrank.decompositions import Decompositions, decompose_sites
from espnet_shrink.methods.lowrank.gradients import loss_changes, loss_gradients
from espnet_shrink.methods.lowrank.latency import Latency, LatencyTable
from espnet_shrink.methods.lowrank.moments import Activations, collect
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.methods.lowrank.timing import least_seconds, one_thread
from espnet_shrink.plan import Survey, dense_plan
from espnet_shrink.plan.cost import CostModel

TIMED = 10  # utterances
DECODED = 3  # times


@dataclass(frozen=True)
class Analysis:
    """One model, seen through a proxy set.

    Attributes:
        survey: its sites, and the rest.
        cost_model: prices of its plans.
        decompose: decomposes it; done once, when it is first asked for.
        gradients: of its loss by each site's weight, (out, in), as far as it reaches them.
    """

    survey: Survey[Site]
    cost_model: CostModel
    decompose: Callable[[], Decompositions]
    gradients: Callable[[], Mapping[str, torch.Tensor]] = dict

    @functools.cached_property
    def decompositions(self) -> Decompositions:
        """Of every site."""
        return self.decompose()

    @property
    def compressor(self) -> Decompositions:
        """What puts plans into the model."""
        return self.decompositions

    @property
    def energies(self) -> dict[str, np.ndarray]:
        """Site -> (k,) squared singular values, descending."""
        return {name: d.energies.numpy() for name, d in self.decompositions.items()}

    @functools.cached_property
    def loss_changes(self) -> dict[str, np.ndarray]:
        """Site -> (k,), to first order what dropping each component adds to the loss."""
        return loss_changes(self.decompositions, self.gradients())


def analyse(
    loaded: LoadedModel, data: FeatureSet, decomposition: str, heard: FeatureSet | None = None
) -> Analysis:
    """Survey, price and decompose an uncompressed model.

    Args:
        loaded: the model.
        data: the proxy set; each utterance is passed once, with its reference text.
        decomposition: "plain" or "whitened".
        heard: by whose activations it whitens; None: those of `data`.
    """
    check_weights(loaded.model)
    found = survey(loaded.model)
    # One pass does for both if it whitens by what it prices by.
    whitens = decomposition == "whitened"
    seen = collect(
        loaded.model, found.sites if whitens and heard is None else [],
        lambda: _run_all(loaded, data.heard()),
    )  # fmt: skip

    def decompose() -> Decompositions:
        moments = None
        if whitens:
            moments = (seen if heard is None else observe(loaded, found, heard)).moments
        return decompose_sites(dict(loaded.model.named_parameters()), found.sites, moments)

    return Analysis(
        found, cost_model(loaded.model, found, seen, data), decompose,
        lambda: loss_gradients(loaded, found.sites, data),
    )  # fmt: skip


def latency(loaded: LoadedModel, prices: CostModel, data: FeatureSet) -> Latency:
    """Predicts how long plans of an uncompressed model take on this machine.

    A few utterances of `data` are decoded greedily, one at a time, to count the calls of every
    matrix and to time all of it. Noise is decoded as if its text were said.

    Args:
        prices: of the model.
        data: the proxy set, or noise.
    """
    some, table = data.heard().spread(TIMED), LatencyTable()

    def decode() -> None:
        decode_alone(loaded, some)

    def seconds() -> float:
        with one_thread():
            return least_seconds([decode], DECODED)[0]

    seen = collect(loaded.model, [], decode)
    calls = {
        name: {rows: often / some.audio_s for rows, often in by_rows.items()}
        for name, by_rows in seen.calls.items()
    }
    whole = table.kept.get(f"model {_what_is_timed(loaded, some)}", seconds)
    assert isinstance(whole, float)
    found = Latency(prices, calls, table, 0.0)
    rest = whole / some.audio_s - found.rtf(dense_plan(prices.sites))
    return dataclasses.replace(found, rest_rtf=max(0.0, rest))


def _what_is_timed(loaded: LoadedModel, data: FeatureSet) -> str:
    """A digest of a model and of what is decoded with it."""
    digest = hashlib.sha256(f"{loaded.hash} {espnet_version()}".encode())
    for feature, tokens in zip(data.features, data.tokens, strict=True):
        digest.update(feature.contiguous().numpy().tobytes())
        digest.update(repr(list(tokens)).encode())
    return digest.hexdigest()


def observe(
    loaded: LoadedModel, found: Survey[Site], data: FeatureSet, of_outputs: bool = True
) -> Activations:
    """Pass every utterance of `data`, with its text, through all of the model, and watch."""
    return collect(loaded.model, found.sites, lambda: _run_all(loaded, data.heard()), of_outputs)


def _run_all(loaded: LoadedModel, data: FeatureSet) -> None:
    model = loaded.model
    names = [u.name for u in data.utterances] or ["noise"] * len(data.features)
    each = zip(names, data.features, data.tokens, data.prompts, strict=True)
    for name, feature, tokens, prompt in each:
        with working_on(f"{loaded.config}: passing {name} and its text through the model"):
            encoded, lengths = encode(model, feature[None], torch.tensor([len(feature)]))
            for decoder in decoders_of(model):
                decoder.teach(model, encoded, lengths, [*prompt.first, *tokens])


def decode_alone(loaded: LoadedModel, data: FeatureSet) -> None:
    """Decode one utterance after the other, greedily, by every decoder of the model.

    Noise, which is no utterance, is decoded as if its tokens came out of it.
    """
    model = loaded.model
    for feature, tokens, prompt in zip(data.features, data.tokens, data.prompts, strict=True):
        encoded, lengths = encode(model, feature[None], torch.tensor([len(feature)]))
        for decoder in decoders_of(model):
            if data.utterances:
                decoder.greedy(model, encoded, lengths, [prompt])
            else:
                decoder.walk(model, encoded, lengths, [*prompt.first, *tokens])


def cost_model(
    model: torch.nn.Module, found: Survey[Site], activations: Activations, data: FeatureSet
) -> CostModel:
    """Prices of a model whose weights are used as `activations` says."""
    return CostModel(
        found.sites,
        {name: parameter.numel() for name, parameter in model.named_parameters()},
        {name: uses / data.audio_s for name, uses in activations.uses.items()},
    )
