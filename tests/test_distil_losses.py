"""Losses of a teacher, against torch's own on what is left when padding is cut off."""

import pytest
import torch
from torch.nn import functional

from espnet_shrink.training.extras.losses import (
    lattice_kl,
    output_mse,
    posterior_kl,
    real_positions,
)

LENGTHS = torch.tensor([5, 3, 1])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def padded(*shape):
    """Values (3, 5, ...), with no numbers where there is padding."""
    values = torch.randn(3, 5, *shape)
    values[~real_positions(LENGTHS, 5)] = torch.nan
    return values


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl_is_torchs_without_the_padding(temperature):
    student, teacher = padded(7), padded(7)
    expected = sum(
        functional.kl_div(
            (student[i, :n] / temperature).log_softmax(-1),
            (teacher[i, :n] / temperature).softmax(-1),
            reduction="sum",
        )
        for i, n in enumerate(LENGTHS)
    )
    found = posterior_kl(student, teacher, real_positions(LENGTHS, 5), temperature)
    assert found.item() == pytest.approx(expected.item() * temperature**2 / 3, rel=1e-5)


def test_mse_is_torchs_without_the_padding():
    student, teacher = padded(4), padded(4)
    expected = sum(
        n * functional.mse_loss(student[i, :n], teacher[i, :n]) for i, n in enumerate(LENGTHS)
    )
    found = output_mse(student, teacher, real_positions(LENGTHS, 5))
    assert found.item() == pytest.approx(expected.item() / 3, rel=1e-5)


def test_equal_models_have_nothing_to_teach_each_other():
    logits, lattice = padded(7), torch.randn(2, 4, 3, 6)
    real = real_positions(LENGTHS, 5)
    labels = torch.tensor([[2, 5], [3, 0]])
    assert posterior_kl(logits, logits, real, 2.0).item() == 0.0
    assert output_mse(logits, logits, real).item() == 0.0
    assert lattice_kl(lattice, lattice, labels, torch.tensor([4, 2]), 1.0).item() == 0.0


def test_lattice_kl_is_that_of_three_classes_at_every_real_node():
    student, teacher = torch.randn(2, 4, 3, 6), torch.randn(2, 4, 3, 6)
    texts, frames = [[2, 5], [3]], [4, 2]
    expected = 0.0
    for i, text in enumerate(texts):
        of_utterance = 0.0
        for t in range(frames[i]):
            for u in range(len(text) + 1):
                classes = []
                for logits in (student, teacher):
                    p = logits[i, t, u].softmax(-1)
                    label = p[text[u]] if u < len(text) else torch.tensor(0.0)
                    classes.append(torch.stack([p[0], label, 1 - p[0] - label]))
                mine, wanted = (c[c > 0] for c in classes)
                of_utterance += (wanted * (wanted / mine).log()).sum().item()
        expected += of_utterance / (len(text) + 1)
    labels = torch.tensor([[2, 5], [3, 0]])
    found = lattice_kl(student, teacher, labels, torch.tensor(frames), 1.0)
    assert found.item() == pytest.approx(expected / 2, rel=1e-4)


def test_gradients_are_finite_for_posteriors_that_are_sure():
    student = torch.zeros(1, 2, 2, 5)
    student[..., 0] = 300.0
    student.requires_grad_()
    teacher = torch.randn(1, 2, 2, 5) * 100
    lattice_kl(student, teacher, torch.tensor([[3]]), torch.tensor([2]), 1.0).backward()
    assert torch.isfinite(student.grad).all()
