"""One pass over data: second moments of every site's inputs, and how often each weight is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from espnet_shrink.compat.whisper.products import output_products
from espnet_shrink.layers import is_pointwise
from espnet_shrink.methods.lowrank.kinds import Form, form_of, layer_kind
from espnet_shrink.methods.lowrank.owners import join
from espnet_shrink.methods.lowrank.second_moments import SecondMoments
from espnet_shrink.methods.lowrank.unroll import (
    frames_of,
    hidden_before,
    initial_state,
    layer_outputs,
)
from espnet_shrink.plan import Decision


@dataclass
class Activations:
    """What the pass saw.

    Attributes:
        moments: site -> (in, in), the mean of x x^T over its inputs x; of a site with more inputs
            than outputs (out, out), that of W x (`second_moments`).
        uses: weight name -> input vectors (for a convolution: output positions) it met. Looking a
            row up is no use of an embedding, as nothing is multiplied.
        calls: weight name -> input vectors that it met at a time -> how often it met so many.
    """

    moments: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    calls: dict[str, Counter[int]] = field(default_factory=dict)


def collect(
    model: nn.Module,
    sites: Sequence[Decision],
    run: Callable[[], None],
    of_outputs: bool = True,
) -> Activations:
    """Run `run()`, which must call `model` on one utterance at a time, and watch its inputs.

    A weight that several modules share meets the inputs of all of them. `run` is called again if
    weights that were given the same tensor at first were not given the same all along.

    Args:
        of_outputs: where that is smaller; else all moments are of inputs.

    Raises:
        ValueError: several utterances at once reached a recurrent layer.
    """
    names: dict[int, str] = {}
    first_names = {
        name: names.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    parameters = dict(model.named_parameters())
    wide = {
        site.name: parameters[site.name].detach().flatten(1) for site in sites
        if of_outputs and site.shape[1] > site.shape[0]
    }  # fmt: skip
    apart: set[str] = set()
    while True:
        moments = SecondMoments(wide, apart)
        watcher = _Watcher({site.name for site in sites}, first_names, moments)
        watcher.watch(model, run)
        if not moments.parted:
            return Activations(moments.means(watcher.uses), watcher.uses, watcher.calls)
        apart |= moments.parted


@dataclass(frozen=True)
class _Call:
    """One call of a module at `path`: its arguments by position and by name, and its output."""

    path: str
    module: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    @property
    def input(self) -> Any:
        return self.args[0] if self.args else self.kwargs["input"]

    @property
    def hx(self) -> Any:
        return self.args[1] if len(self.args) > 1 else self.kwargs.get("hx")


# Where a module keeps its weight; after the plain name, of weight norm and spectral norm.
STORED_AS = (
    "{}", "{}_v", "{}_orig", "parametrizations.{}.original1", "parametrizations.{}.original",
)  # fmt: skip

Watch = Callable[[_Call], None]


def _bind(watch: Watch, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch(_Call(path, module, args, kwargs, output))

    return hook


class _Watcher:
    def __init__(
        self, sites: set[str], first_names: Mapping[str, str], moments: SecondMoments
    ) -> None:
        self.sites = sites
        self.first_names = first_names
        self.moments = moments
        self.uses: dict[str, int] = {}
        self.calls: dict[str, Counter[int]] = {}

    def watch(self, model: nn.Module, run: Callable[[], None]) -> None:
        """What the modules of `model` are given while `run` runs."""
        watched = [(module, self.watch_for(module), path) for path, module in model.named_modules()]
        for path, table in output_products(model).items():
            watched.append((model.get_submodule(path), self._output, table))
        handles = [
            module.register_forward_hook(_bind(watch, path), with_kwargs=True)
            for module, watch, path in watched
            if watch is not None
        ]
        try:
            with torch.no_grad():
                run()
        finally:
            for handle in handles:
                handle.remove()

    def watch_for(self, module: nn.Module) -> Watch | None:
        form = form_of(module)
        if form is Form.SEQUENCE and layer_kind(module) is None:
            return self._uses_of_all  # it may hide its hidden states; no site needs them
        watches: dict[Form | None, Watch] = {
            Form.ROWS: self._linear, Form.CHANNELS: self._convolution,
            Form.SEQUENCE: self._recurrent, Form.CELL: self._cell,
        }  # fmt: skip
        return watches.get(form)

    def _add(self, path: str, name: str, inputs: Tensor) -> None:
        """Count inputs, (..., in), of the weight `name` of the module at `path`."""
        self._count(path, name, inputs.numel() // inputs.shape[-1])
        site = self.first_names.get(join(path, name))
        if site in self.sites:
            self.moments.add(site, inputs)

    def _count(self, path: str, name: str, uses: int) -> None:
        for form in STORED_AS:
            # The model counts a shared weight once, by its first name.
            first = self.first_names.get(join(path, form.format(name)))
            if first is not None:
                self.uses[first] = self.uses.get(first, 0) + uses
                self.calls.setdefault(first, Counter())[uses] += 1
                return

    def _linear(self, call: _Call) -> None:
        self._add(call.path, "weight", call.input)

    def _output(self, call: _Call) -> None:
        self._add(call.path, "weight", call.output)

    def _cell(self, call: _Call) -> None:
        hidden = call.hx[0] if isinstance(call.hx, (tuple, list)) else call.hx
        if hidden is None:
            hidden = call.input.new_zeros(*call.input.shape[:-1], call.module.hidden_size)
        self._add(call.path, "weight_ih", call.input)
        self._add(call.path, "weight_hh", hidden)

    def _convolution(self, call: _Call) -> None:
        conv = call.module
        if not is_pointwise(conv):
            self._count(call.path, "weight", call.output.numel() // conv.out_channels)
            return
        dimensions = len(conv.kernel_size)
        met = call.input[(..., *(slice(None, None, step) for step in conv.stride))]
        self._add(call.path, "weight", met.movedim(-1 - dimensions, -1))

    def _uses_of_all(self, call: _Call) -> None:
        rows = len(frames_of(call.input, call.module.batch_first))
        for name, _ in call.module.named_parameters():
            if name.startswith("weight"):
                self._count(call.path, name, rows)

    def _recurrent(self, call: _Call) -> None:
        module = call.module
        frames = frames_of(call.input, module.batch_first)
        start = initial_state(module, call.hx, frames)
        for layer in range(module.num_layers):
            if layer == module.num_layers - 1:
                outputs = call.output[0]
            else:  # hidden in the fused call, so it is run again
                outputs = layer_outputs(module, layer, frames, start)
            outputs = frames_of(outputs, module.batch_first)
            for direction, before in enumerate(hidden_before(module, layer, outputs, start)):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                self._add(call.path, f"weight_ih{suffix}", frames)
                self._add(call.path, f"weight_hh{suffix}", before)
            frames = outputs
