"""How far a student is from its teacher.

Each is summed over the real positions of an utterance and averaged over the batch, as ESPnet's own
losses are; a posterior's gradient is scaled by the temperature's square (Hinton et al. 2015, 2).
"""

from __future__ import annotations

import torch
from torch.nn import functional


def real_positions(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """(B, size), true where a sequence of `lengths` (B) is not padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def posterior_kl(
    student: torch.Tensor, teacher: torch.Tensor, real: torch.Tensor, temperature: float
) -> torch.Tensor:
    """KL(teacher || student) of softmax posteriors.

    Args:
        student, teacher: logits (B, L, V).
        real: (B, L).
    """
    return _kl(_log_posteriors(student[real], temperature),
               _log_posteriors(teacher[real], temperature), len(student), temperature)  # fmt: skip


def output_mse(student: torch.Tensor, teacher: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the dimensions of outputs (B, T, D); `real` is (B, T)."""
    summed = functional.mse_loss(student[real].float(), teacher[real].float(), reduction="sum")
    return summed / (student.shape[-1] * len(student))


def lattice_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """KL of a transducer's posteriors of {blank, the next label, all others} at every node.

    After Panchapagesan et al., Efficient Knowledge Distillation for RNN-Transducer Models (2021).
    Averaged over the U + 1 label positions of an utterance, so that it is of the size of a frame
    KL.

    Args:
        student, teacher: logits (B, T, U + 1, V), blank is 0.
        labels: (B, U), padded with 0.
        frames: (B).
    """
    counts = (labels != 0).sum(1)
    real = real_positions(frames, student.shape[1])[:, :, None]
    real = real & real_positions(counts + 1, student.shape[2])[:, None]
    # Behind the last label there is none: the class is as empty for both.
    following = functional.pad(labels, (0, 1))[:, None].expand(-1, student.shape[1], -1)[real]
    share = (1.0 / (counts + 1))[:, None, None].expand_as(real)[real]
    mine, wanted = (
        _collapsed(_log_posteriors(logits[real], temperature), following)
        for logits in (student, teacher)
    )
    return _kl(mine, wanted, len(student), temperature, share)


def _log_posteriors(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.log_softmax(logits.float() / temperature, dim=-1)


def _collapsed(posteriors: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Log posteriors (N, V) to (N, 3): blank, label `following` (N; 0: none), rest."""
    tiny = torch.finfo(posteriors.dtype).tiny
    blank = posteriors[:, 0].exp()
    label = posteriors.gather(1, following[:, None])[:, 0].exp() * (following != 0)
    rest = 1.0 - blank - label
    return torch.stack([blank, label, rest], 1).clamp_min(tiny).log()


def _kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    utterances: int,
    temperature: float,
    share: torch.Tensor | None = None,
) -> torch.Tensor:
    """Of log posteriors (N, V); `share` (N) weighs the positions."""
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    if share is not None:
        divergence = divergence * share
    return divergence.sum() * temperature**2 / utterances
