"""The decompositions of all sites of one model, and how they put a plan into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from espnet_shrink.core.weights import check_finite
from espnet_shrink.errors import ShrinkError, working_on
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompose import Decomposition, decompose
from espnet_shrink.methods.lowrank.replan import Replanner
from espnet_shrink.plan import Decision, Plan


class Decompositions(dict[str, Decomposition]):
    """The decompositions of a model's sites, by name: what makes any of its plans cheap."""

    def planner(self, views: Sequence[nn.Module]) -> Replanner:
        """Puts plans into `views` of the model."""
        return Replanner(views, self)

    def put(self, model: nn.Module, plan: Plan) -> None:
        """Factorise a model of the same weights by `plan`."""
        factorise(model, plan, factors_of(plan, self))


def decompose_sites(
    weights: Mapping[str, torch.Tensor],
    sites: Sequence[Decision],
    moments: dict[str, torch.Tensor] | None,
) -> Decompositions:
    """Decompose every site, whitened by its entry of `moments`.

    Plain without: `moments` is None, the data never reached the site, or it is only looked up. Each
    is taken out of `moments` as it is used, as all of both may be more than the model itself.

    Raises:
        ShrinkError: a weight or moment is not finite, or cannot be decomposed; the site is named.
    """
    found = Decompositions()
    for site in sites:
        check_finite(site.name, weights[site.name])
        moment = None if moments is None else moments.pop(site.name, None)
        if moment is not None and not moment.isfinite().all():
            raise ShrinkError(
                f"what {site.name} was given is not finite: the model computes infinities or no "
                "numbers from this data"
            )
        with working_on(f"decomposing {site.name}"):
            found[site.name] = decompose(weights[site.name].reshape(site.shape), moment)
    return found


def factors_of(
    plan: Plan, decompositions: Mapping[str, Decomposition]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The factors of every factorised site of `plan`."""
    return {name: decompositions[name].factors(r) for name, r in plan.factored.items()}
