"""One SVD per site; after it, the factors of any rank are a slice.

Plain: W = P D Q^T, the best rank-r approximation of W itself (Eckart-Young).
Whitened: with S = E[x x^T] = L L^T the second moments of the site's inputs, the SVD of W L
gives the rank-r W' that minimises E ||W x - W' x||^2. SVD-LLM, DRONE and (uncentred) LiteASR
all arrive at this matrix; the loss is the root of the sum of the dropped squared singular values.
The left singular vectors are the eigenvectors of W S W^T, the second moments of the outputs W x: of
a weight with more inputs than outputs these are a smaller matrix, and say as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
        moment: (in, in) second moments of its inputs x; or (out, out), of W x, of a weight with
            more inputs than outputs; None for the plain SVD.
    """
    W = weight.detach().to(torch.float64)
    if moment is None:
        P, D, Qt = torch.linalg.svd(W, full_matrices=False)
        V = Qt
    elif len(moment) < W.shape[1]:
        squares, vectors = torch.linalg.eigh(moment.to(torch.float64))
        P = vectors.flip(1)
        D = squares.flip(0).clamp_min(torch.finfo(torch.float32).tiny).sqrt()
        V = P.T @ W / D[:, None]
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
