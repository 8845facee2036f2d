"""The low-rank LSTM with weights of 8 bits, for inference on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from espnet_shrink.layers.fused import Direction
from espnet_shrink.layers.lstm import LowRankLSTM
from espnet_shrink.layers.recurrent import States

LARGEST = 127  # symmetric: -128 is not used


def to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric rounding, a scale for each row: rows (n, m) ~ q (n, m) times scale (n, 1)."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny) / LARGEST
    return torch.round(rows / scale).to(torch.int8), scale


class Int8LowRankLSTM(LowRankLSTM):
    """What LowRankLSTM becomes when ESPnet quantises a model: weights of 8 bits, products in float.

    A factored matrix is kept as U diag(scale) V with a scale for each component, and a dense one
    with a scale for each row. Recurrent factors are read by the compiled kernel as they are;
    input matrices are made float in every call, which pays off over many frames.

    State dict:
        NAME_U, NAME_V (int8) and NAME_scale (r); for a dense NAME, NAME (int8) and NAME_scale
        (4H); biases in float.
    """

    @classmethod
    def from_float(cls, module: LowRankLSTM, use_precomputed_fake_quant: bool = False) -> Any:
        """Quantise; torch's `convert` calls it.

        Args:
            use_precomputed_fake_quant: of torch's interface; not used.
        """
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update(
            {k: v for k, v in vars(module).items() if not k.startswith("_") or k == "_suffixes"}
        )
        for s in (s for layer in module._suffixes for s in layer):
            for name in (f"weight_ih{s}", f"weight_hh{s}"):
                new._store(name, *module._factors(name))
            for name in (f"bias_ih{s}", f"bias_hh{s}") if module.bias else ():
                new.register_buffer(name, getattr(module, name).detach().clone())
        return new.eval()

    def _store(self, name: str, u: Tensor, v: Tensor | None) -> None:
        u = u.detach()
        if v is None:
            q, scale = to_int8(u)
            self.register_buffer(name, q)
        else:
            q_u, scale_u = to_int8(u.t())
            q_v, scale_v = to_int8(v.detach())
            scale = scale_u * scale_v
            self.register_buffer(f"{name}_U", q_u.t())
            self.register_buffer(f"{name}_V", q_v)
        self.register_buffer(f"{name}_scale", scale[:, 0])

    def _direction(self, s: str) -> Direction:
        biases = tuple(bias for bias in self._biases(s) if bias is not None)
        w_ih, v_ih = self._factors(f"weight_ih{s}")
        scale_ih = getattr(self, f"weight_ih{s}_scale")
        w_hh, v_hh = self._factors(f"weight_hh{s}")
        scale_hh = getattr(self, f"weight_hh{s}_scale")
        if v_ih is None:
            w_ih = w_ih * scale_ih[:, None]
        else:
            w_ih, v_ih = w_ih * scale_ih, v_ih.to(scale_ih.dtype)
        if v_hh is None:
            return Direction(w_ih, w_hh * scale_hh[:, None], biases, v_ih)
        return Direction(w_ih, w_hh, biases, v_ih, v_hh, scale_hh)

    def _first_matrix(self) -> Tensor:
        scale: Tensor = self.get_buffer("weight_ih_l0_scale")
        return scale.new_empty(super()._first_matrix().shape)  # of inputs' dtype and width

    def _one_frame(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        return self._sequence(x, states)
