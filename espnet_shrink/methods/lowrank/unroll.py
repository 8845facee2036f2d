"""What a library call of an LSTM or GRU hides: inner layers, and the states before frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

State = tuple[Tensor, ...]
"""h, and c of an LSTM, each (num_layers * directions, H)."""


def frames_of(sequence: Any, batch_first: bool) -> Tensor:
    """(T, features) of a single utterance, packed, batched or neither.

    Raises:
        ValueError: a batch of more than one.
    """
    if isinstance(sequence, PackedSequence):
        if int(sequence.batch_sizes[0]) != 1:
            raise ValueError("moments are collected from one utterance at a time")
        return sequence.data
    if sequence.dim() == 3 and sequence.shape[0 if batch_first else 1] != 1:
        raise ValueError("moments are collected from one utterance at a time")
    return sequence.reshape(-1, sequence.shape[-1])


def initial_state(module: Any, hx: Any, frames: Tensor) -> State:
    """The state that a call of `module` with `hx` starts from, without its batch of one."""
    layers = module.num_layers * (2 if module.bidirectional else 1)
    if hx is None:
        zeros = frames.new_zeros(layers, module.hidden_size)
        return (zeros, zeros) if isinstance(module, torch.nn.LSTM) else (zeros,)
    states = (hx,) if isinstance(hx, Tensor) else hx
    return tuple(state.reshape(layers, module.hidden_size) for state in states)


def hidden_before(module: Any, layer: int, outputs: Tensor, start: State) -> list[Tensor]:
    """The hidden states before every frame, (T, H) for each direction of a layer.

    Args:
        outputs: (T, H * directions), of this layer.
        start: the state before the first frame, of all layers.
    """
    forward, *backward = outputs.split(module.hidden_size, dim=1)
    k = layer * (1 + len(backward))
    before = [torch.cat([start[0][k : k + 1], forward[:-1]])]
    return before + [torch.cat([h[1:], start[0][k + 1 : k + 2]]) for h in backward]


def layer_outputs(module: Any, layer: int, frames: Tensor, start: State) -> Tensor:
    """The outputs of one layer alone, (T, H * directions), for its inputs (T, in)."""
    kind = torch.nn.LSTM if isinstance(module, torch.nn.LSTM) else torch.nn.GRU
    single = kind(
        frames.shape[-1], module.hidden_size, bias=module.bias, bidirectional=module.bidirectional
    ).to(frames)
    own = dict(module.named_parameters(remove_duplicate=False))
    directions = 2 if module.bidirectional else 1
    states = [state[layer * directions : (layer + 1) * directions] for state in start]
    with torch.no_grad():
        for name, parameter in single.named_parameters():
            parameter.copy_(own[name.replace("_l0", f"_l{layer}")])
        return single(frames, tuple(states) if len(states) > 1 else states[0])[0]
