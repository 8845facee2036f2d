"""LSTM stacks on fused kernels: the library's (oneDNN on a CPU, cuDNN on CUDA), or our own.

Each layer and direction is one call of the library LSTM. A factored input matrix is folded
into the input (x V^T, then U as the input matrix of width r); a factored recurrent matrix is
multiplied out, so that the fused kernel can be used in training and the gradient reaches both
factors through the product. Inference on a CPU uses the factors themselves where that is faster
(inference.py).

torch has no fused kernel for packed input on a CPU. There the packed frames are spread over a
padded batch, each sequence reversed by its own length for the backward direction, and the
outputs gathered back. Between layers the data stays packed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import _VF, Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from espnet_shrink.layers.inference import KernelCall, kernel_takes, run_together
from espnet_shrink.layers.inputs import check_input, initial_states, permute

State = tuple[Tensor, Tensor]
"""h and c, each (num_layers * directions, B, H)."""

Result = tuple[Tensor, Tensor, Tensor]
"""Output frames, and h and c after, each (1, B, H)."""

GATE_OFF = -1e4  # sigmoid(-1e4) is exactly 0 and sigmoid(1e4) exactly 1 in every dtype


@dataclass(frozen=True)
class Direction:
    """Weights of one layer in one direction; gates in torch's order i, f, g, o.

    w_ih: (4H, in), or U (4H, r) if v_ih is given.
    w_hh: (4H, H), or U (4H, r) if v_hh is given.
    biases: b_ih and b_hh, each (4H), or empty.
    v_ih: (r, in) or None.
    v_hh: (r, H) or None.
    scale_hh: (r), if U and V of the recurrent matrix have 8 bits: it is U diag(scale_hh) V then.
    """

    w_ih: Tensor
    w_hh: Tensor
    biases: tuple[Tensor, ...]
    v_ih: Tensor | None = None
    v_hh: Tensor | None = None
    scale_hh: Tensor | None = None

    def recurrent(self) -> Tensor:
        """(4H, H), factors multiplied out."""
        if self.v_hh is None:
            return self.w_hh
        return (self.w_hh if self.scale_hh is None else self.w_hh * self.scale_hh) @ (
            self.v_hh.to(self.w_ih)
        )


Layers = Sequence[Sequence[Direction]]
Run = Callable[[Tensor, Direction, State, bool], Result]
"""(frames, weights, (h, c) each (1, B, H), reverse) -> output frames, h_n, c_n."""


def _library_lstm(x: Tensor, w: Direction, hx: State, batch_sizes: Tensor | None = None) -> Result:
    """One layer, one direction, front to back; x is time-major or, with batch_sizes, packed."""
    weights = [w.w_ih, w.recurrent(), *w.biases]
    # "train" only decides whether buffers for the backward pass are kept: dropout is 0 here.
    options = (weights, bool(w.biases), 1, 0.0, torch.is_grad_enabled(), False)
    if batch_sizes is None:
        return _VF.lstm(x, hx, *options, False)
    return _VF.lstm(x, batch_sizes, hx, *options)


def _run_batch(z: Tensor, w: Direction, hx: State, reverse: bool) -> Result:
    """z: (T, B, in), all sequences T frames long."""
    if not reverse:
        return _library_lstm(z, w, hx)
    y, h_n, c_n = _library_lstm(z.flip(0), w, hx)
    return y.flip(0), h_n, c_n


class Rows:
    """Where packed row n, frame t of sequence b, lies in a padded batch of T * B rows.

    Attributes:
        forward: (N) t * B + b.
        reverse: (N) the same with every sequence reversed, (length_b - 1 - t) * B + b.
        last: (B) the last frame of each sequence.
    """

    def __init__(self, batch_sizes: Tensor) -> None:
        """batch_sizes: (T), as in a PackedSequence."""
        self.steps, self.batch = len(batch_sizes), int(batch_sizes[0])
        columns = torch.arange(self.batch)
        alive = columns < batch_sizes[:, None]
        t, b = alive.nonzero(as_tuple=True)
        lengths = alive.sum(0)
        self.forward = t * self.batch + b
        self.reverse = (lengths[b] - 1 - t) * self.batch + b
        self.last = (lengths - 1) * self.batch + columns


class _RunPadded:
    """Packed frames (N, in) through the unpacked kernel, exact to the final states.

    An input column that is 1 on padding frames closes the input gate and opens the forget gate
    there, so that c passes through the padding unchanged; h_n is read at the last real frame.
    """

    def __init__(self, batch_sizes: Tensor) -> None:
        self.rows = Rows(batch_sizes)

    def __call__(self, z: Tensor, w: Direction, hx: State, reverse: bool) -> Result:
        rows = self.rows
        where = rows.reverse if reverse else rows.forward
        width, hidden = z.size(1), hx[0].size(2)
        padded = z.new_zeros(rows.steps * rows.batch, width + 1)
        padded[:, width] = 1
        padded = padded.index_copy(0, where, F.pad(z, (0, 1)))
        freeze = w.w_ih.new_zeros(4 * hidden, 1)
        freeze[:hidden] = GATE_OFF
        freeze[hidden : 2 * hidden] = -GATE_OFF
        frozen = replace(w, w_ih=torch.cat((w.w_ih, freeze), 1), v_ih=None)
        y, _, c_n = _library_lstm(padded.view(rows.steps, rows.batch, width + 1), frozen, hx)
        y = y.reshape(-1, hidden)
        return y.index_select(0, where), y.index_select(0, rows.last)[None], c_n


class _RunPacked:
    """Packed frames (N, in) through the library's own packed kernel (cuDNN)."""

    def __init__(self, batch_sizes: Tensor, device: torch.device) -> None:
        rows = Rows(batch_sizes)
        row_at = rows.forward.new_zeros(rows.steps * rows.batch)
        row_at[rows.forward] = torch.arange(len(rows.forward))
        self.batch_sizes = batch_sizes
        self.flip = row_at[rows.reverse].to(device)  # its own inverse

    def __call__(self, z: Tensor, w: Direction, hx: State, reverse: bool) -> Result:
        if not reverse:
            return _library_lstm(z, w, hx, self.batch_sizes)
        y, h_n, c_n = _library_lstm(z.index_select(0, self.flip), w, hx, self.batch_sizes)
        return y.index_select(0, self.flip), h_n, c_n


def _run_layers(
    layers: Layers, x: Tensor, hx: State, dropout: float, run: Run, batch_sizes: Tensor
) -> tuple[Tensor, State]:
    h_n: list[Tensor] = []
    c_n: list[Tensor] = []
    for number, directions in enumerate(layers):
        if number and dropout:
            x = F.dropout(x, dropout)
        results: dict[int, Result] = {}
        calls: dict[int, KernelCall] = {}
        for n, w in enumerate(directions):
            z = x if w.v_ih is None else F.linear(x, w.v_ih)
            k = len(h_n) + n
            state = (hx[0][k : k + 1], hx[1][k : k + 1])
            if w.v_hh is not None and kernel_takes(z, w.w_hh, w.v_hh, int(batch_sizes[0])):
                calls[n] = KernelCall(
                    z, w.w_ih, w.biases, w.w_hh, w.v_hh, w.scale_hh, state, batch_sizes, n == 1
                )
            else:
                results[n] = run(z, w, state, n == 1)
        results.update(zip(calls, run_together(list(calls.values())), strict=True))
        outputs, h, c = zip(*(results[n] for n in range(len(directions))), strict=True)
        h_n += h
        c_n += c
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
    return x, (torch.cat(h_n), torch.cat(c_n))


def lstm_forward(layers: Layers, x: Tensor, hx: State, dropout: float) -> tuple[Tensor, State]:
    """A stack of LSTM layers over sequences of one length.

    Args:
        layers: weights, outer index the layer, inner the direction (1 or 2).
        x: (T, B, in).
        hx: initial state; neither it nor x is checked.
        dropout: probability between layers, 0 in evaluation.
    Returns:
        (T, B, H * directions), (h_n, c_n).
    """
    return _run_layers(layers, x, hx, dropout, _run_batch, _full(x))


def _full(x: Tensor) -> Tensor:
    """The batch sizes (T) of (T, B, in): no sequence is shorter."""
    return torch.full((x.size(0),), x.size(1))


def packed_lstm_forward(
    layers: Layers, packed: PackedSequence, hx: State | None, dropout: float
) -> tuple[PackedSequence, State]:
    """As lstm_forward for packed sequences; hx and the result are in the caller's order.

    Raises:
        RuntimeError, ValueError: a size or dtype that does not fit, as torch.nn.LSTM.
    """
    x, batch_sizes, order, back = packed
    first = layers[0][0]
    check_input("LSTM", x, first.w_ih if first.v_ih is None else first.v_ih)
    batch, steps = int(batch_sizes[0]), len(batch_sizes)
    hidden = first.w_hh.size(0) // 4
    h, c = initial_states(x, (sum(map(len, layers)), batch, hidden), hx, 2)
    hx = (permute(h, order), permute(c, order))
    if int(batch_sizes[-1]) == batch:
        y, state = lstm_forward(layers, x.reshape(steps, batch, -1), hx, dropout)
        y = y.reshape(steps * batch, -1)
    else:
        cpu = x.device.type == "cpu"
        run = _RunPadded(batch_sizes) if cpu else _RunPacked(batch_sizes, x.device)
        y, state = _run_layers(layers, x, hx, dropout, run, batch_sizes)
    state = (permute(state[0], back), permute(state[1], back))
    return PackedSequence(y, batch_sizes, order, back), state


def padded_lstm_forward(
    lstm: nn.LSTM, packed: PackedSequence, hx: State | None = None
) -> tuple[PackedSequence, State]:
    """torch.nn.LSTM.forward for packed input through the padded, fused path.

    Args:
        lstm: without projection (proj_size 0).
        packed: frames (N, in).
        hx: (h, c), each (num_layers * directions, B, H), or None for zeros.
    Returns:
        What lstm(packed, hx) returns.
    """
    directions = 2 if lstm.bidirectional else 1
    flat = [Direction(w[0], w[1], tuple(w[2:])) for w in lstm.all_weights]
    layers = [flat[i : i + directions] for i in range(0, len(flat), directions)]
    return packed_lstm_forward(layers, packed, hx, lstm.dropout if lstm.training else 0.0)
