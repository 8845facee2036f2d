"""When our own kernels run LSTMs, and how: inference on a CPU, with factored matrices."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Up to this share of H the kernel is faster than torch's dense LSTM at any batch size; for one
# sequence it is at any rank (benchmarks/lstm.py).
LARGEST_SHARE = 1 / 3

# With up to so many rows, as in beam search, a step takes less than the ways in and out of the ten
# kernels that torch needs for it.
FEW_ROWS = 4

# A call with fewer multiply-accumulates is over before another thread has begun to help.
LEAST_MACS = 3 * 10**7

# Gates are made for as many frames at a time as stay in a core's cache.
GATE_FLOATS = 2**18


def kernel_takes(x: Tensor, u: Tensor, v: Tensor, batch: int) -> bool:
    """Whether the kernel runs a recurrence U V, U (4H, r) and V (r, H), over frames x."""
    rank, hidden = v.shape
    return (
        (batch == 1 or rank <= LARGEST_SHARE * hidden)
        and u.dtype in (torch.float32, torch.int8)
        and _is_plain_inference(x, u, v)
    )


def few_rows(x: Tensor, *others: Tensor) -> bool:
    """Whether `cell` takes x (B, in), and states and weights."""
    return (
        x.dim() == 2
        and len(x) <= FEW_ROWS
        and all(other.dtype == torch.float32 for other in others)
        and _is_plain_inference(x, *others)
    )


def _is_plain_inference(x: Tensor, *others: Tensor) -> bool:
    """Not training, nor a model that is traced, compiled, cast, or on another device."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and all(type(t) in (Tensor, torch.nn.Parameter) for t in (x, *others))
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    ih: tuple[Tensor, Tensor | None],
    hh: tuple[Tensor, Tensor | None],
    biases: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """An LSTM's step: x (B, in), h and c (B, H) -> h and c.

    Args:
        ih, hh: U (4H, r) and V (r, in or H), or a dense matrix and None.
        biases: b_ih and b_hh (4H), or None.
    """
    from espnet_shrink.layers import kernel

    matrices = [
        array
        for u, v in (ih, hh)
        for array in (_array(u), np.empty((0, u.size(1)), np.float32) if v is None else _array(v))
    ]
    vectors = [_NOTHING if bias is None else _array(bias) for bias in biases]
    h_n, c_n = kernel.lstm_cell(_array(x), _array(h), _array(c), *matrices, *vectors)
    return torch.from_numpy(h_n), torch.from_numpy(c_n)


_NOTHING = np.empty(0, np.float32)


def _array(x: Tensor) -> Any:
    return x.contiguous().numpy()


@dataclass(frozen=True)
class KernelCall:
    """One layer in one direction.

    Attributes:
        z: frames, (N, in) packed or (T, B, in).
        w_ih: (4H, in).
        biases: b_ih and b_hh, each (4H), or empty.
        u: (4H, r); v: (r, H). Both of 8 bits, if there is a scale.
        scale: (r), of the 8-bit factors; None: 1.
        state: h and c before, each (1, B, H).
        batch_sizes: (T), as in a PackedSequence.
        reverse: from the last frame to the first.
    """

    z: Tensor
    w_ih: Tensor
    biases: tuple[Tensor, ...]
    u: Tensor
    v: Tensor
    scale: Tensor | None
    state: tuple[Tensor, Tensor]
    batch_sizes: Tensor
    reverse: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the recurrence."""
        frames = self.z.numel() // self.w_ih.size(1)
        return frames * (self.u.numel() + self.v.numel())

    @torch.no_grad()  # a setting of the thread
    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """Output frames like z, and h and c after."""
        from espnet_shrink.layers.kernel import lstm_frames

        z = self.z.reshape(-1, self.w_ih.size(1))
        width = len(self.u)
        bias = self.biases[0] + self.biases[1] if self.biases else z.new_zeros(width)
        sizes, blocks = self._blocks(max(1, GATE_FLOATS // width))
        gates = z.new_empty(max(stop - start for _, start, stop in blocks), width)
        h, c = (part[0].contiguous().clone() for part in self.state)
        y = z.new_empty(len(z), h.size(1))
        v, u = self.v.contiguous().numpy(), self.u.t().contiguous().numpy()
        scale = (z.new_ones(len(v)) if self.scale is None else self.scale).numpy()
        for steps, start, stop in reversed(blocks) if self.reverse else blocks:
            now = gates[: stop - start]
            torch.addmm(bias, z[start:stop], self.w_ih.t(), out=now)
            lstm_frames(
                now.numpy(), v, u, scale, sizes[steps], h.numpy(), c.numpy(),
                y[start:stop].numpy(), self.reverse,
            )  # fmt: skip
        return y.view(*self.z.shape[:-1], -1), h[None], c[None]

    def _blocks(self, rows: int) -> tuple[Any, list[tuple[slice, int, int]]]:
        """batch_sizes as an array, and the blocks of steps with about `rows` frames each.

        A block is its steps, its first frame and the frame after its last.
        """
        sizes = self.batch_sizes.numpy()
        ends = sizes.cumsum()
        blocks = []
        first = start = 0
        while first < len(sizes):
            last = max(int(ends.searchsorted(start + rows, "right")), first + 1)
            stop = int(ends[last - 1])
            blocks.append((slice(first, last), start, stop))
            first, start = last, stop
        return sizes, blocks


def run_together(calls: Sequence[KernelCall]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The results of all calls; two long ones at once if torch may use two threads."""
    if len(calls) == 2 and torch.get_num_threads() > 1 and calls[0].macs > LEAST_MACS:
        return list(_threads(os.getpid()).map(KernelCall.__call__, calls))
    return [call() for call in calls]


@functools.cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Two threads of this process: a forked one has lost its parent's."""
    return ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))
