"""What every low-rank layer does with its factors: check, compute, store, multiply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_shrink.errors import ShrinkError

Factors = Mapping[str, tuple[Tensor, Tensor]]


def check_rank(name: str, rank: int, shape: tuple[int, int]) -> None:
    """Raise ShrinkError, naming the matrix, unless 1 <= rank <= min(shape)."""
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(shape):
        raise ShrinkError(
            f"{name}: rank {rank!r} of a {shape[0]} x {shape[1]} matrix is out of range; "
            f"give a whole number from 1 to {min(shape)}"
        )


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ShrinkError for a name in given (called what) that is not among the known."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ShrinkError(f"{what}: {name!r} is not one of {', '.join(known) or 'none'}")


def balanced_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best rank-r approximation U V of a matrix in the Frobenius norm (Eckart-Young).

    The singular values are shared out evenly: U = U_r sqrt(S_r), V = sqrt(S_r) V_r^T.

    Args:
        weight: (out, in), any floating type.
        rank: r, 1 <= r <= min(out, in); not checked.
    Returns:
        U (out, r) and V (r, in) on weight's device and in its dtype.
    """
    exact = weight.detach()
    if exact.dtype in (torch.float16, torch.bfloat16):  # no half-precision SVD in torch
        exact = exact.float()
    u, s, vt = torch.linalg.svd(exact, full_matrices=False)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).to(weight.dtype), (root[:, None] * vt[:rank]).to(weight.dtype)


def given_or_svd(
    name: str, weight: Tensor, rank: int, factors: Factors | None
) -> tuple[Tensor, Tensor]:
    """The given factors of a matrix, or its truncated SVD when none are given.

    Args:
        name: key in factors, used in errors.
        weight: (out, in).
        rank: r.
        factors: name -> (U (out, r), V (r, in)).
    Returns:
        U (out, r), V (r, in) in weight's dtype and on its device.
    Raises:
        ShrinkError: rank out of range, or factors of another shape.
    """
    rows, columns = weight.shape
    check_rank(name, rank, (rows, columns))
    if factors is None or name not in factors:
        return balanced_svd(weight, rank)
    u, v = factors[name]
    if u.shape != (rows, rank) or v.shape != (rank, columns):
        raise ShrinkError(
            f"{name}: factors have shapes {tuple(u.shape)} and {tuple(v.shape)}; "
            f"rank {rank} needs {(rows, rank)} and {(rank, columns)}"
        )
    return u.detach().to(weight), v.detach().to(weight)


def add_matrix(module: nn.Module, name: str, shape: tuple[int, int], rank: int | None) -> None:
    """Register a matrix (out, in) as NAME, or with a rank as NAME_U (out, r) and NAME_V (r, in)."""
    if rank is None:
        module.register_parameter(name, nn.Parameter(torch.empty(shape)))
        return
    check_rank(name, rank, shape)
    module.register_parameter(f"{name}_U", nn.Parameter(torch.empty(shape[0], rank)))
    module.register_parameter(f"{name}_V", nn.Parameter(torch.empty(rank, shape[1])))


def reset_parameters(module: nn.Module, hidden_size: int, ranks: Mapping[str, int]) -> None:
    """torch's for LSTM and GRU, U(-b, b) with b = H^-1/2; products U V get the same variance."""
    for name, parameter in module.named_parameters():
        bound = hidden_size**-0.5
        if name.endswith(("_U", "_V")):
            # r * (b^2 / 3)^2 = 1 / (3 H)
            bound = (3 / (ranks[name[:-2]] * hidden_size)) ** 0.25
        nn.init.uniform_(parameter, -bound, bound)


def stored_matrix(
    module: nn.Module, name: str, ranks: Mapping[str, int]
) -> tuple[Tensor, Tensor | None]:
    """U (out, r) and V (r, in) of the matrix NAME of a module, or the dense matrix and None."""
    if name in ranks:
        return getattr(module, f"{name}_U"), getattr(module, f"{name}_V")
    return getattr(module, name), None


def dense_matrix(module: nn.Module, name: str, ranks: Mapping[str, int]) -> Tensor:
    """The matrix NAME (out, in) of a module, multiplied out if it is factored."""
    u, v = stored_matrix(module, name, ranks)
    return u if v is None else u @ v


def multiply(
    module: nn.Module, name: str, ranks: Mapping[str, int], x: Tensor, bias: Tensor | None
) -> Tensor:
    """W x + b with the matrix NAME of a module, by its factors if it has them.

    Args:
        x: (..., in).
    Returns:
        (..., out).
    """
    u, v = stored_matrix(module, name, ranks)
    return F.linear(x if v is None else F.linear(x, v), u, bias)


@torch.no_grad()
def copy_parameters(
    source: nn.Module, target: nn.Module, ranks: Mapping[str, int], factors: Factors | None
) -> None:
    """Fill a low-rank module from a dense one with the same names."""
    for name, parameter in source.named_parameters():
        if name in ranks:
            u, v = given_or_svd(name, parameter, ranks[name], factors)
            getattr(target, f"{name}_U").copy_(u)
            getattr(target, f"{name}_V").copy_(v)
        else:
            getattr(target, name).copy_(parameter)


@torch.no_grad()
def copy_dense_parameters(source: nn.Module, target: nn.Module, ranks: Mapping[str, int]) -> None:
    """Fill a dense module from a low-rank one, multiplying the factors out."""
    for name, parameter in target.named_parameters():
        parameter.copy_(dense_matrix(source, name, ranks))


def allocate_like(module: nn.Module, like: Tensor, training: bool) -> None:
    """Give a module built on the meta device unset memory on like's device, in its dtype.

    Building on the meta device first leaves torch's random state alone.
    """
    module.to(like.dtype).to_empty(device=like.device)
    module.train(training)
