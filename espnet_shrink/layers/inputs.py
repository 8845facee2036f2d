"""Input and initial states of recurrent layers: the checks that torch makes, with its errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_input(mode: str, x: Tensor, weight: Tensor) -> None:
    """Hold frames against the first matrix that they meet.

    Args:
        mode: "LSTM" or "GRU", used in errors.
        x: (..., in).
        weight: (rows, in).
    Raises:
        RuntimeError: another number of features.
        ValueError: another dtype, outside autocast.
    """
    if x.size(-1) != weight.size(1):
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {weight.size(1)}, "
            f"got {x.size(-1)}"
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{mode} input dtype ({x.dtype}) does not match weight dtype ({weight.dtype})"
        )


def initial_states(
    x: Tensor, shape: tuple[int, int, int], states: Sequence[Tensor] | None, count: int
) -> tuple[Tensor, ...]:
    """The given states, or `count` of zeros on x's device and in its dtype.

    Args:
        shape: (num_layers * directions, B, H), which every state must have.
    Raises:
        RuntimeError: a state of another shape.
    """
    if states is None:
        return (x.new_zeros(shape),) * count
    for i, state in enumerate(states):
        if state.shape != shape:
            raise RuntimeError(f"Expected hidden[{i}] size {shape}, got {tuple(state.shape)}")
    return tuple(states)


def permute(state: Tensor, order: Tensor | None) -> Tensor:
    """A state (num_layers * directions, B, H) with its batch in another order."""
    return state if order is None else state.index_select(1, order)
