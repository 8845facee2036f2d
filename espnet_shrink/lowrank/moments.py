"""One pass over data: second moments of every site's inputs, and how often each weight is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.plan import Site


@dataclass
class Activations:
    """What the pass saw.

    Attributes:
        moments: site -> (in, in), the mean of x x^T over its inputs x.
        uses: weight name -> input vectors (for a convolution: output positions) it met.
    """

    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)


def collect(model: torch.nn.Module, sites: Sequence[Site], run: Callable[[], None]) -> Activations:
    """Run `run()`, which must call `model` on one utterance at a time, and watch its inputs."""
    watcher = _Watcher({site.name for site in sites})
    handles = []
    for path, module in model.named_modules():
        watch = watcher.watch_for(module)
        if watch is not None:
            handles.append(module.register_forward_hook(_bind(watch, path), with_kwargs=True))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    # Hooks see every module that shares a weight; the model counts it once, by its first name.
    first_names: dict[int, str] = {}
    uses: dict[str, int] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = first_names.setdefault(id(parameter), name)
        if name in watcher.uses:
            uses[first] = uses.get(first, 0) + watcher.uses[name]
    moments = {
        name: (total / max(watcher.uses[name], 1)).to(torch.float32)
        for name, total in watcher.totals.items()
    }
    return Activations(moments, uses)


def _bind(watch: Callable[..., None], path: str) -> Callable[..., None]:
    def hook(module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch(path, module, args, kwargs, output)

    return hook


class _Watcher:
    def __init__(self, sites: set[str]) -> None:
        self.sites = sites
        self.totals: dict[str, torch.Tensor] = {}
        self.uses: dict[str, int] = {}

    def watch_for(self, module: torch.nn.Module) -> Callable[..., None] | None:
        if isinstance(module, torch.nn.Linear):
            return self._linear
        if isinstance(module, torch.nn.LSTM):
            # A projection hides the hidden states; no site needs them.
            return self._lstm if module.proj_size == 0 else self._recurrent
        if isinstance(module, (torch.nn.LSTMCell, torch.nn.GRUCell)):
            return self._cell
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            return self._convolution
        if isinstance(module, torch.nn.GRU):
            return self._recurrent
        return None

    def _add(self, name: str, inputs: torch.Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1])
        self.uses[name] = self.uses.get(name, 0) + len(rows)
        if name in self.sites:
            x = rows.to(torch.float64)
            total = x.T @ x
            self.totals[name] = self.totals[name] + total if name in self.totals else total

    def _linear(self, path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        self._add(f"{path}.weight", args[0])

    def _cell(self, path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        hidden = state[0] if isinstance(state, (tuple, list)) else state
        if hidden is None:
            hidden = args[0].new_zeros(*args[0].shape[:-1], module.hidden_size)
        self._add(f"{path}.weight_ih", args[0])
        self._add(f"{path}.weight_hh", hidden)

    def _convolution(self, path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        name = f"{path}.weight"
        self.uses[name] = self.uses.get(name, 0) + output.numel() // module.out_channels

    def _recurrent(self, path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        rows = len(_frames(args[0], module.batch_first))
        for name, _ in module.named_parameters():
            if name.startswith("weight"):
                key = f"{path}.{name}"
                self.uses[key] = self.uses.get(key, 0) + rows

    def _lstm(self, path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        frames = _frames(args[0], module.batch_first)
        for layer in range(module.num_layers):
            # Inner layers are hidden in the fused call, so they are run again one by one.
            last = layer == module.num_layers - 1
            H = module.hidden_size
            outputs = output[0] if last else _one_layer(module, layer, frames)
            outputs = _frames(outputs, module.batch_first)
            for direction in range(2 if module.bidirectional else 1):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                h = outputs[:, direction * H : (direction + 1) * H]
                start = h.new_zeros(1, H)
                before = torch.cat([h[1:], start]) if direction else torch.cat([start, h[:-1]])
                self._add(f"{path}.weight_ih{suffix}", frames)
                self._add(f"{path}.weight_hh{suffix}", before)
            frames = outputs


def _frames(sequence: Any, batch_first: bool) -> torch.Tensor:
    """(T, features) of a single utterance, packed, batched or neither."""
    if isinstance(sequence, PackedSequence):
        if int(sequence.batch_sizes[0]) != 1:
            raise ValueError("moments are collected from one utterance at a time")
        return sequence.data
    if sequence.dim() == 3 and sequence.shape[0 if batch_first else 1] != 1:
        raise ValueError("moments are collected from one utterance at a time")
    return sequence.reshape(-1, sequence.shape[-1])


def _one_layer(module: torch.nn.LSTM, layer: int, frames: torch.Tensor) -> torch.Tensor:
    single = torch.nn.LSTM(
        frames.shape[-1], module.hidden_size, bias=module.bias, bidirectional=module.bidirectional
    ).to(frames)
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, parameter in single.named_parameters():
            parameter.copy_(own[name.replace("_l0", f"_l{layer}")])
    return single(frames)[0]
