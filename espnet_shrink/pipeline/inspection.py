"""Find what a model consists of: its sites, their spectra, and its parameters, size and MACs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from espnet_shrink.compat.models import LoadedModel, espnet_version
from espnet_shrink.compat.text import Prompt
from espnet_shrink.core.checkpoints import read_checkpoint
from espnet_shrink.core.settings import require
from espnet_shrink.core.weights import check_finite
from espnet_shrink.data.features import (
    FeatureSet,
    encoder_input,
    fixed_length_s,
    sampling_rate_hz,
)
from espnet_shrink.errors import working_on
from espnet_shrink.layers.quantised import QuantisedSizes, quantised_sizes
from espnet_shrink.methods.lowrank.analysis import cost_model, latency, observe
from espnet_shrink.methods.lowrank.build import fold, plan_of
from espnet_shrink.methods.lowrank.moments import collect
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import Survey
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.report.inspection import (
    ENERGY_PERCENTS,
    Inspection,
    SiteRow,
    Totals,
    energy_rank,
)

NOISE_S = 10.0
NOISE_LEVEL = 1e-3  # of full scale
TOKENS_PER_S = 3
FRAMES_PER_S = 100  # of models that are given features
TOKEN = 1  # any but 0, which is a blank: what is said changes no count


def inspect_model(loaded: LoadedModel, origin: str, timed: bool = False) -> Inspection:
    """Decompose every site, weigh the model, and count its MACs on noise.

    Args:
        loaded: compressed or not.
        origin: what the user calls it.
        timed: measure how long its matrices take on this machine, too.

    Raises:
        ShrinkError: a weight is not finite, the model's decoder needs files that are missing, or
            a language model is to be timed.
    """
    require(not timed or loaded.task.name != "lm", "language models are not timed")
    plan = plan_of(loaded.model)
    folded = loaded
    if plan.factored:
        folded = loaded.copy()
        fold(folded.model)
    found = survey(folded.model)
    parameters = dict(folded.model.named_parameters())
    energies = {s.name: spectrum(s, parameters[s.name]) for s in found.sites}
    prices, data, over = _prices(folded, found)
    cost = prices.cost(plan)
    times = latency(folded, prices, data) if timed and data is not None else None
    sites = [
        SiteRow(
            s.name, s.kind, s.shape, s.params_at(plan.ranks[s.name]),
            s.params_at(plan.ranks[s.name]) / cost.params,
            {str(p): energy_rank(energies[s.name], p / 100) for p in ENERGY_PERCENTS},
            s.largest_useful_rank, plan.ranks[s.name],
            None if times is None else times.break_even(s),
            None if times is None else times.site_rtf(s, plan.ranks[s.name]),
        )
        for s in found.sites
    ]  # fmt: skip
    parameters_mib, buffers_mib = _stored(loaded)
    int8: QuantisedSizes = quantised_sizes(loaded.model)
    # The rates of `prices` are those of tokens then.
    macs, is_lm = cost.macs_per_audio_second, loaded.task.name == "lm"
    totals = Totals(
        cost.params, cost.size_mib, parameters_mib, buffers_mib, int8.memory_mib, int8.float_mib,
        sum(prices.numels.values()) / cost.params,
        None if is_lm else macs, macs if is_lm else None, over,
        None if times is None else times.rtf(plan),
    )  # fmt: skip
    return Inspection(
        origin, loaded.checkpoint.name, loaded.task.name, espnet_version(), sites,
        found.uncompressed, totals, energies,
    )  # fmt: skip


def spectrum(site: Site, weight: torch.Tensor) -> np.ndarray:
    """(k,) squared singular values of a site's matrix, descending.

    Raises:
        ShrinkError: it holds infinities or no numbers.
    """
    check_finite(site.name, weight)
    matrix = weight.detach().reshape(site.shape).to(torch.float64)
    with working_on(f"decomposing {site.name}"):
        squared: np.ndarray = (torch.linalg.svdvals(matrix) ** 2).numpy()
    return squared


def _prices(folded: LoadedModel, found: Survey[Site]) -> tuple[CostModel, FeatureSet | None, str]:
    """Prices per second of audio, or per token of a language model; on what, and that in words."""
    if folded.task.name == "lm":
        tokens = int(TOKENS_PER_S * NOISE_S)
        given = torch.full((1, tokens), TOKEN)
        with working_on(f"{folded.config}: passing {tokens} tokens through the model"):
            seen = collect(folded.model, found.sites, lambda: folded.model.lm(given, None))
        numels = {name: p.numel() for name, p in folded.model.named_parameters()}
        rates = {name: uses / tokens for name, uses in seen.uses.items()}
        return CostModel(found.sites, numels, rates), None, f"one pass over {tokens} tokens"
    data, over = _noise(folded)
    return cost_model(folded.model, found, observe(folded, found, data), data), data, over


def _noise(loaded: LoadedModel) -> tuple[FeatureSet, str]:
    """Faint noise with a text, as what the encoder is given, and the same in words."""
    fixed_s, dims = fixed_length_s(loaded), getattr(loaded.args, "input_size", None) or 1
    seconds = NOISE_S if fixed_s is None else min(NOISE_S, fixed_s)
    tokens = [TOKEN] * int(TOKENS_PER_S * seconds)
    over = f"one greedy pass over {seconds:g} s of faint noise and a text of {len(tokens)} tokens"
    if loaded.model.frontend is None and dims > 1:
        shape: tuple[int, ...] = (int(FRAMES_PER_S * seconds), dims)
        over += f" ({FRAMES_PER_S} frames of features a second)"
    else:
        shape = (int(sampling_rate_hz(loaded) * seconds),)
    if fixed_s is not None and fixed_s > seconds:
        over += f" (padded to {fixed_s:g} s, the only length that the model knows)"
    noise = NOISE_LEVEL * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    prompt = Prompt([getattr(loaded.model, "sos", 0)])
    given = encoder_input(loaded, noise)
    return FeatureSet([], [given], [tokens], [seconds], prompts=[prompt]), over


def _stored(loaded: LoadedModel) -> tuple[dict[str, float], dict[str, float]]:
    """Type of number -> MiB in the checkpoint, of parameters and of buffers, each counted once."""
    state = read_checkpoint(loaded.checkpoint)

    def weigh(names: Sequence[str]) -> dict[str, float]:
        sizes: dict[str, float] = {}
        for tensor in (state[name] for name in names if name in state):
            dtype = str(tensor.dtype).removeprefix("torch.")
            sizes[dtype] = sizes.get(dtype, 0.0) + tensor.numel() * tensor.element_size() / 2**20
        return sizes

    model = loaded.model
    return (
        weigh([name for name, _ in model.named_parameters()]),
        weigh([name for name, _ in model.named_buffers()]),
    )
