"""One SVD per site; after it, the factors of any rank are a slice.

Plain: W = P D Q^T, the best rank-r approximation of W itself (Eckart-Young).
Whitened: with S = E[x x^T] = L L^T the second moments of the site's inputs, the SVD of W L
gives the rank-r W' that minimises E ||W x - W' x||^2. SVD-LLM, DRONE and (uncentred) LiteASR
all arrive at this matrix; the loss is the root of the sum of the dropped squared singular values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from espnet_shrink.errors import ShrinkError, working_on
from espnet_shrink.plan import Plan, Site

# Share of the mean variance added to S, so that unseen input directions stay defined.
RIDGE = 1e-4


@dataclass(frozen=True)
class Decomposition:
    """All ranks of one site.

    Attributes:
        U: (out, k), k = min(out, in); columns ordered by importance.
        V: (k, in).
        singular_values: (k,), of W or of W L, descending.
    """

    U: torch.Tensor
    V: torch.Tensor
    singular_values: torch.Tensor

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """U: (out, rank) and V: (rank, in)."""
        return self.U[:, :rank], self.V[:rank]

    def product(self, rank: int) -> torch.Tensor:
        """The rank-`rank` approximation of the weight, (out, in)."""
        U, V = self.factors(rank)
        return U @ V

    @property
    def energies(self) -> torch.Tensor:
        """(k,): squared singular values, the loss of dropping each component."""
        return self.singular_values**2


def decompose(weight: torch.Tensor, moment: torch.Tensor | None = None) -> Decomposition:
    """Decompose one weight.

    Args:
        weight: (out, in).
        moment: (in, in) second moments of its inputs; None for the plain SVD.
    """
    W = weight.detach().to(torch.float64)
    if moment is None:
        P, D, Qt = torch.linalg.svd(W, full_matrices=False)
        V = Qt
    else:
        S = moment.to(torch.float64, copy=True)
        mean_variance = S.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
        S.diagonal().add_(RIDGE * mean_variance)
        L = torch.linalg.cholesky(S)
        P, D, Qt = torch.linalg.svd(W @ L, full_matrices=False)
        V = torch.linalg.solve_triangular(L, Qt, upper=False, left=False)
    root = D.sqrt()
    return Decomposition(
        (P * root).to(weight.dtype), (root[:, None] * V).to(weight.dtype), D.to(torch.float32)
    )


def decompose_sites(
    weights: Mapping[str, torch.Tensor],
    sites: Sequence[Site],
    moments: Mapping[str, torch.Tensor] | None,
) -> dict[str, Decomposition]:
    """Decompose every site, whitened by its entry of `moments`.

    Plain without: `moments` is None, the data never reached the site, or it is only looked up.

    Raises:
        ShrinkError: a weight or moment is not finite, or cannot be decomposed; the site is named.
    """
    found = {}
    for site in sites:
        check_finite(site.name, weights[site.name])
        moment = None if moments is None else moments.get(site.name)
        if moment is not None and not moment.isfinite().all():
            raise ShrinkError(
                f"what {site.name} was given is not finite: the model computes infinities or no "
                "numbers from this data"
            )
        with working_on(f"decomposing {site.name}"):
            found[site.name] = decompose(weights[site.name].reshape(site.shape), moment)
    return found


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse a weight that holds infinities or no numbers.

    Raises:
        ShrinkError: it does; its name is told.
    """
    if not weight.isfinite().all():
        raise ShrinkError(
            f"{name} holds values that are not finite: the training diverged, "
            "take an earlier checkpoint"
        )


def factors_of(
    plan: Plan, decompositions: Mapping[str, Decomposition]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The factors of every factorised site of `plan`."""
    return {name: decompositions[name].factors(r) for name, r in plan.factored.items()}
