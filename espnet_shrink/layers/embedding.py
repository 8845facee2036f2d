"""An embedding as the product of two tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers.factors import (
    add_matrix,
    allocate_like,
    copy_dense_parameters,
    dense_matrix,
    given_or_svd,
)


def is_plain_embedding(module: nn.Module) -> bool:
    """Whether an embedding is nothing but a table: dense gradients, rows as they are."""
    return (
        isinstance(module, nn.Embedding)
        and module.max_norm is None
        and not module.scale_grad_by_freq
        and not module.sparse
    )


class LowRankEmbedding(nn.Module):
    """Drop-in for torch.nn.Embedding with weight = U V: a row of U is looked up, then times V.

    Args:
        num_embeddings, embedding_dim, padding_idx: as torch.nn.Embedding.
        rank: r, 1 <= r <= min(num_embeddings, embedding_dim).
    State dict:
        weight_U (num_embeddings, r), weight_V (r, embedding_dim).
    Raises:
        ShrinkError: rank out of range.
    """

    weight_U: nn.Parameter
    weight_V: nn.Parameter

    # What torch's module also has, at the values that a plain table has.
    max_norm = None
    norm_type = 2.0
    scale_grad_by_freq = False
    sparse = False

    def __init__(
        self, num_embeddings: int, embedding_dim: int, rank: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        # torch counts a negative one from the end.
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.ranks = {"weight": rank}
        add_matrix(self, "weight", (num_embeddings, embedding_dim), rank)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Products of variance 1, as torch's; the row of padding_idx is zero."""
        for parameter in (self.weight_U, self.weight_V):
            nn.init.normal_(parameter, std=self.rank**-0.25)
        if self.padding_idx is not None:
            with torch.no_grad():
                self.weight_U[self.padding_idx] = 0

    @classmethod
    def from_dense(
        cls, embedding: nn.Embedding, rank: int, factors: tuple[Tensor, Tensor] | None = None
    ) -> LowRankEmbedding:
        """Factor a dense embedding; device, dtype and training mode follow it.

        Args:
            rank: r.
            factors: U (num_embeddings, r) and V (r, embedding_dim); without them a truncated,
                balanced SVD.
        Raises:
            ShrinkError: an embedding with max_norm, scale_grad_by_freq or sparse gradients,
                rank out of range or factors of another shape.
        """
        if not is_plain_embedding(embedding):
            raise ShrinkError(
                "an embedding with max_norm, scale_grad_by_freq or sparse gradients cannot be "
                "factorised; leave it dense"
            )
        named = None if factors is None else {"weight": factors}
        u, v = given_or_svd("weight", embedding.weight, rank, named)
        pad = embedding.padding_idx
        with torch.device("meta"):
            new = cls(embedding.num_embeddings, embedding.embedding_dim, rank, pad)
        allocate_like(new, embedding.weight, embedding.training)
        with torch.no_grad():
            new.weight_U.copy_(u)
            new.weight_V.copy_(v)
            if pad is not None and not embedding.weight[pad].any():
                new.weight_U[pad] = 0  # exactly, where the SVD leaves rounding
        return new

    def to_dense(self) -> nn.Embedding:
        """The same table as torch.nn.Embedding, factors multiplied out."""
        with torch.device("meta"):
            dense = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx)
        allocate_like(dense, self.weight_U, self.training)
        copy_dense_parameters(self, dense, self.ranks)
        return dense

    @property
    def rank(self) -> int:
        return self.ranks["weight"]

    @property
    def weight(self) -> Tensor:
        """The product U V, (num_embeddings, embedding_dim), computed on every read."""
        return dense_matrix(self, "weight", self.ranks)

    def forward(self, input: Tensor) -> Tensor:
        """input (...), whole numbers -> (..., embedding_dim)."""
        rows = F.embedding(input, self.weight_U) @ self.weight_V
        if self.padding_idx is None:
            return rows
        # As in torch, padding gives its row but no gradient: none to V either.
        return torch.where((input == self.padding_idx).unsqueeze(-1), rows.detach(), rows)

    def extra_repr(self) -> str:
        pad = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={self.rank}{pad}"
