"""Ways to decompose a model's matrices, for benchmarks/decomposition.py to compare.

Each is a function (Materials) -> Factored. With W the matrix, x its inputs, S = E[x x^T] = L L^T,
and W_r the result of rank r:

    plain         least |W - W_r|                                             (Eckart-Young)
    whitened      least E|(W - W_r) x|^2: the SVD of W L                      (SVD-LLM, 2403.07378)
    centred       the same around the mean of x, and W_r's error at the mean into the bias
                                                                              (LiteASR, 2502.20583)
    two_sided     least E|D (W - W_r) x|^2, D the size of the loss's gradient by output
                                                                              (FWSVD, 2207.00112)
    recalibrated  whitened, each module by the inputs that it gets behind compressed ones
                                                                              (SVD-LLM, 2403.07378)
    joint         [W_ih W_hh] of an LSTM with one left factor, at the pair's parameters

The tied projection of 1603.08042 (a recurrent matrix and the next layer's input matrix with one
right factor) has no place here: in ESPnet's encoder the next layer reads both directions, or a
linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.methods.lowrank.analysis import observe
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompose import Decomposition, decompose
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.moments import Activations
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import Plan, Survey, dense_plan

RIDGE = 1e-4
LEAST_GRADIENT = 1e-2  # of the mean: rows that seem not to matter keep some weight


@dataclass(frozen=True)
class Materials:
    """A model, what was seen of it on a proxy set, and the plan that all ways share."""

    loaded: LoadedModel
    found: Survey
    activations: Activations
    proxy: FeatureSet
    plan: Plan


@dataclass(frozen=True)
class Factored:
    """A factorised model and how many parameters it has."""

    loaded: LoadedModel
    params: int


def by_parts(
    given: Materials, parts: Mapping[str, Decomposition], model: LoadedModel | None = None
) -> Factored:
    """The plan with these decompositions, put into `model` or a copy of the given one."""
    small = model or given.loaded.copy()
    factorise(small.model, given.plan, factors_of(given.plan, parts))
    return Factored(small, sum(p.numel() for p in small.model.parameters()))


def weights(given: Materials) -> dict[str, Any]:
    """The model's parameters by name."""
    return dict(given.loaded.model.named_parameters())


def plain(given: Materials) -> Factored:
    """By the matrices alone."""
    return by_parts(given, decompose_sites(weights(given), given.found.sites, None))


def whitened(given: Materials) -> Factored:
    """By the second moments of the inputs, as the product does."""
    moments = dict(given.activations.moments)
    return by_parts(given, decompose_sites(weights(given), given.found.sites, moments))


def centred(given: Materials) -> Factored:
    """By the covariance of the inputs; where there is a bias, it takes the error at the mean."""
    means = input_means(given)
    parts, named = {}, weights(given)
    small = given.loaded.copy()
    biases = dict(small.model.named_parameters())
    for site in given.found.sites:
        weight, moment = named[site.name], given.activations.moments.get(site.name)
        bias = site.name.replace("weight", "bias")
        if moment is None or bias not in biases:
            parts[site.name] = decompose(weight.reshape(site.shape), moment)
            continue
        mean = means[site.name]
        parts[site.name] = decompose(weight, moment - torch.outer(mean, mean))
        rank = given.plan.ranks[site.name]
        if isinstance(rank, int):
            with torch.no_grad():
                biases[bias].add_((weight - parts[site.name].product(rank)) @ mean)
    return by_parts(given, parts, small)


def two_sided(given: Materials) -> Factored:
    """By inputs and, for each output, the size of the loss's gradient."""
    sizes, parts, named = gradient_sizes(given), {}, weights(given)
    for site in given.found.sites:
        weight, moment = named[site.name], given.activations.moments.get(site.name)
        row = sizes[site.name]
        row = row.clamp_min(LEAST_GRADIENT * float(row.mean()) + 1e-30)
        found = decompose(row[:, None] * weight.reshape(site.shape), moment)
        parts[site.name] = Decomposition(found.U / row[:, None], found.V, found.singular_values)
    return by_parts(given, parts)


def recalibrated(given: Materials) -> Factored:
    """Module by module, by what comes out of those before when they are compressed."""
    parts: dict[str, Decomposition] = {}
    ranks = dict(dense_plan(given.found.sites).ranks)
    named = weights(given)
    groups: dict[str, list[Site]] = {}
    for site in given.found.sites:
        groups.setdefault(site.name.rpartition(".")[0], []).append(site)
    for sites in groups.values():
        so_far = given.loaded.copy()
        plan = Plan(ranks)
        factorise(so_far.model, plan, factors_of(plan, parts))
        left = survey(so_far.model)
        moments = observe(so_far, left, given.proxy).moments
        parts.update(decompose_sites(named, sites, moments))
        ranks.update({site.name: given.plan.ranks[site.name] for site in sites})
    return by_parts(given, parts)


def joint(given: Materials) -> Factored:
    """Input and recurrent matrix of an LSTM with one left factor, which counts once."""
    named, moments = weights(given), given.activations.moments
    parts = decompose_sites(named, given.found.sites, dict(moments))
    ranks, saved = dict(given.plan.ranks), 0
    shapes = {site.name: site.shape for site in given.found.sites}
    for name, shape in shapes.items():
        other = name.replace("weight_ih", "weight_hh")
        pair = (name, other)
        if other == name or other not in shapes or any(ranks[n] == "dense" for n in pair):
            continue
        rows, width = shape[0], shape[1] + shapes[other][1]
        budget = sum(int(ranks[n]) * sum(shapes[n]) for n in pair)
        rank = min(budget // (rows + width), rows, width)
        # Inputs and states are taken as uncorrelated: their own moments whiten the two blocks.
        moment = torch.block_diag(*(moments[n] for n in pair))
        found = decompose(torch.cat([named[n].detach() for n in pair], 1), moment)
        columns = found.V.split([shapes[n][1] for n in pair], 1)
        for n, v in zip(pair, columns, strict=True):
            ranks[n] = rank
            parts[n] = Decomposition(found.U, v.contiguous(), found.singular_values)
        saved += rank * rows
    small = given.loaded.copy()
    plan = Plan(ranks)
    factors = {n: parts[n].factors(r) for n, r in plan.factored.items()}
    force(small.model, plan, factors)
    return Factored(small, sum(p.numel() for p in small.model.parameters()) - saved)


def force(model: torch.nn.Module, plan: Plan, factors: Mapping[str, Any]) -> None:
    """Factorise, also at ranks that would not pay without the shared factor."""
    within = {s.name: s.largest_useful_rank for s in survey(model).sites}
    fits = {n: r if not isinstance(r, int) or r <= within[n] else "dense"
            for n, r in plan.ranks.items()}  # fmt: skip
    with torch.no_grad():
        named = dict(model.named_parameters())
        for n, r in fits.items():
            if r == "dense" and n in factors:
                named[n].copy_(factors[n][0] @ factors[n][1])
    factorise(model, Plan(fits), {n: f for n, f in factors.items() if fits[n] != "dense"})


def input_means(given: Materials) -> dict[str, torch.Tensor]:
    """Site -> (in), the mean of its inputs, taken where the product takes their moments."""
    from espnet_shrink.methods.lowrank import moments as module

    totals: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    original = module._Watcher._add

    def add(self: Any, path: str, name: str, inputs: torch.Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1])
        site = self.first_names.get(f"{path}.{name}")
        if site in self.sites:
            totals[site] = totals.get(site, 0) + rows.double().sum(0)
            counts[site] = counts.get(site, 0) + len(rows)
        original(self, path, name, inputs)

    module._Watcher._add = add  # type: ignore[method-assign]
    try:
        observe(given.loaded, given.found, given.proxy)
    finally:
        module._Watcher._add = original  # type: ignore[method-assign]
    return {name: (total / counts[name]).float() for name, total in totals.items()}


def gradient_sizes(given: Materials) -> dict[str, torch.Tensor]:
    """Site -> (out), root mean square over utterances of the training loss's gradient by row."""
    copied = given.loaded.copy()
    model, proxy = copied.model, given.proxy
    model.eval()
    squares = {site.name: torch.zeros(site.shape[0]) for site in given.found.sites}
    named = dict(model.named_parameters())
    for features, tokens in zip(proxy.features, proxy.tokens, strict=True):
        model.zero_grad()
        with torch.enable_grad():
            encoded, lengths = encode(model, features[None], torch.tensor([len(features)]))
            text = (torch.tensor([list(tokens)]), torch.tensor([len(tokens)]))
            ctc = model._calc_ctc_loss(encoded, lengths, *text)[0]
            attention = model._calc_att_loss(encoded, lengths, *text)[0]
            (model.ctc_weight * ctc + (1 - model.ctc_weight) * attention).sum().backward()
        for site in given.found.sites:
            gradient = named[site.name].grad
            if gradient is not None:
                squares[site.name] += gradient.reshape(site.shape).square().sum(1)
    return {name: (total / len(proxy.features)).sqrt() for name, total in squares.items()}


WAYS: dict[str, Callable[[Materials], Factored]] = {
    f.__name__: f for f in (plain, whitened, centred, two_sided, recalibrated, joint)
}
