"""What a search must know of a model: its sites, their spectra, and what each weight costs."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.cost import CostModel
from espnet_shrink.errors import working_on
from espnet_shrink.latency import Latency, LatencyTable, one_thread
from espnet_shrink.lowrank.decompose import Decomposition, check_finite, decompose_sites
from espnet_shrink.lowrank.moments import Activations, collect
from espnet_shrink.lowrank.sites import Survey, survey
from espnet_shrink.plan import dense_plan
from espnet_shrink.proxy.decoders import decoders_of
from espnet_shrink.proxy.encoder import encode
from espnet_shrink.proxy.features import FeatureSet

TIMED = 10  # utterances


@dataclass(frozen=True)
class Analysis:
    """One model, seen through a proxy set."""

    survey: Survey
    cost_model: CostModel
    decompositions: Mapping[str, Decomposition]

    @property
    def energies(self) -> dict[str, np.ndarray]:
        """Site -> (k,) squared singular values, descending."""
        return {name: d.energies.numpy() for name, d in self.decompositions.items()}


def analyse(loaded: LoadedModel, data: FeatureSet, decomposition: str) -> Analysis:
    """Survey, price and decompose an uncompressed model.

    Args:
        loaded: the model.
        data: the proxy set; each utterance is passed once, with its reference text.
        decomposition: "plain" or "whitened".
    """
    check_weights(loaded)
    found = survey(loaded.model)
    activations = observe(loaded, found, data)
    parameters = dict(loaded.model.named_parameters())
    moments = activations.moments if decomposition == "whitened" else None
    return Analysis(
        found, cost_model(loaded.model, found, activations, data),
        decompose_sites(parameters, found.sites, moments),
    )  # fmt: skip


def latency(loaded: LoadedModel, prices: CostModel, data: FeatureSet) -> Latency:
    """Predicts how long plans of an uncompressed model take on this machine.

    Args:
        prices: of the model, with the rates and rows seen on `data`.
        data: the proxy set; a few of its utterances are passed through the model and timed.
    """
    some = data.first(TIMED)

    def seconds() -> float:
        _run_all(loaded, some)  # warms up
        start = time.perf_counter()
        _run_all(loaded, some)
        return time.perf_counter() - start

    table = LatencyTable()
    with one_thread():
        whole_rtf = (
            table.kept(f"model {model_hash(loaded.model)} {some.audio_s:g} s", seconds)
            / some.audio_s
        )
    found = Latency(prices, table, 0.0)
    rest = whole_rtf - found.rtf(dense_plan(prices.sites))
    return dataclasses.replace(found, rest_rtf=max(0.0, rest))


def check_weights(loaded: LoadedModel) -> None:
    """Refuse a model that holds infinities or no numbers.

    Raises:
        ShrinkError: a parameter or buffer does; it is named.
    """
    for name, parameter in loaded.model.named_parameters():
        check_finite(name, parameter)
    for name, buffer in loaded.model.named_buffers():
        if buffer.isnan().any():  # infinities may be masks
            check_finite(name, buffer)


def observe(loaded: LoadedModel, found: Survey, data: FeatureSet) -> Activations:
    """Pass every utterance of `data`, with its text, through all of the model, and watch."""
    return collect(loaded.model, found.sites, lambda: _run_all(loaded, data))


def _run_all(loaded: LoadedModel, data: FeatureSet) -> None:
    model = loaded.model
    names = [u.name for u in data.utterances] or ["noise"] * len(data.features)
    for name, feature, tokens, prompt in zip(
        names, data.features, data.tokens, data.prompts, strict=True
    ):
        with working_on(f"{loaded.config}: passing {name} and its text through the model"):
            encoded, lengths = encode(model, feature[None], torch.tensor([len(feature)]))
            for decoder in decoders_of(model):
                decoder.teach(model, encoded, lengths, [*prompt.first, *tokens])


def cost_model(
    model: torch.nn.Module, found: Survey, activations: Activations, data: FeatureSet
) -> CostModel:
    """Prices of a model whose weights are used as `activations` says."""
    return CostModel(
        found.sites,
        {name: parameter.numel() for name, parameter in model.named_parameters()},
        {name: uses / data.audio_s for name, uses in activations.uses.items()},
        {name: uses / activations.calls[name] for name, uses in activations.uses.items()},
    )


def model_hash(model: torch.nn.Module) -> str:
    """SHA-256 over the names and values (as float32) of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        # One type: ESPnet's GlobalMVN turns its statistics from float64 to float32 at first use.
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
