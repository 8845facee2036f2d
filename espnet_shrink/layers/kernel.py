"""LSTMs with factored matrices, compiled by numba, for inference on a CPU.

A step is two thin products, the gates and the cell, all in one compiled loop: neither U V nor a
padded batch is ever made. The product's rows are long and few, so plain loops over them become
vector code; small sizes are where torch's kernels spend their time on the way in and out. Factors
of 8 bits are read as they are: large ones come from the outer caches in a quarter of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Sums may be reordered, as vector code does; NaN stays NaN.
_COMPILED: dict[str, Any] = {
    "nogil": True, "cache": True, "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}  # fmt: skip
_HALF = np.float32(0.5)
_FLOAT = np.float32  # of an 8-bit weight; a product with one would be float64


@njit(inline="always", **_COMPILED)
def _tanh(x: Any) -> Any:
    """Within 3e-7 of tanh: the rational function of Eigen's `generic_fast_tanh_float`."""
    if x > np.float32(7.9):
        x = np.float32(7.9)
    if x < np.float32(-7.9):
        x = np.float32(-7.9)
    x2 = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * x2 + np.float32(2.00018790482477e-13)
    p = p * x2 + np.float32(-8.60467152213735e-11)
    p = p * x2 + np.float32(5.12229709037114e-08)
    p = p * x2 + np.float32(1.48572235717979e-05)
    p = p * x2 + np.float32(6.37261928875436e-04)
    p = p * x2 + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * x2 + np.float32(1.18534705686654e-04)
    q = q * x2 + np.float32(2.26843463243900e-03)
    q = q * x2 + np.float32(4.89352518554385e-03)
    return x * p / q


@njit(inline="always", **_COMPILED)
def _sigmoid(x: Any) -> Any:
    return _HALF * _tanh(_HALF * x) + _HALF


@njit(**_COMPILED)
def _rows(matrix: Any, x: Any, out: Any, batch: int) -> None:
    """out = x matrix^T, four rows of the matrix at a time."""
    count, width = matrix.shape
    for b in range(batch):
        row = x[b]
        for k in range(0, count - 3, 4):
            m0, m1, m2, m3 = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
            s0 = s1 = s2 = s3 = np.float32(0)
            for j in range(width):
                value = row[j]
                s0 += _FLOAT(m0[j]) * value
                s1 += _FLOAT(m1[j]) * value
                s2 += _FLOAT(m2[j]) * value
                s3 += _FLOAT(m3[j]) * value
            out[b, k], out[b, k + 1], out[b, k + 2], out[b, k + 3] = s0, s1, s2, s3
        for k in range(count - count % 4, count):
            m0 = matrix[k]
            s0 = np.float32(0)
            for j in range(width):
                s0 += _FLOAT(m0[j]) * row[j]
            out[b, k] = s0


@njit(**_COMPILED)
def _widen(u: Any, z: Any, gates: Any, batch: int) -> None:
    """gates += z U^T, given U^T, four components at a time."""
    rank, width = u.shape
    for k in range(0, rank - 3, 4):
        u0, u1, u2, u3 = u[k], u[k + 1], u[k + 2], u[k + 3]
        for b in range(batch):
            row = gates[b]
            z0, z1, z2, z3 = z[b, k], z[b, k + 1], z[b, k + 2], z[b, k + 3]
            for j in range(width):
                row[j] += (
                    z0 * _FLOAT(u0[j])
                    + z1 * _FLOAT(u1[j])
                    + z2 * _FLOAT(u2[j])
                    + z3 * _FLOAT(u3[j])
                )
    for k in range(rank - rank % 4, rank):
        u0 = u[k]
        for b in range(batch):
            row = gates[b]
            z0 = z[b, k]
            for j in range(width):
                row[j] += z0 * _FLOAT(u0[j])


@njit(**_COMPILED)
def _cells(gates: Any, h: Any, c: Any, y: Any, batch: int) -> None:
    size = h.shape[1]
    for b in range(batch):
        i, f = gates[b, :size], gates[b, size : 2 * size]
        g, o = gates[b, 2 * size : 3 * size], gates[b, 3 * size :]
        h_b, c_b, y_b = h[b], c[b], y[b]
        for j in range(size):
            cell = _sigmoid(f[j]) * c_b[j] + _sigmoid(i[j]) * _tanh(g[j])
            hidden = _sigmoid(o[j]) * _tanh(cell)
            c_b[j] = cell
            h_b[j] = hidden
            y_b[j] = hidden


@njit(**_COMPILED)
def lstm_frames(
    gates: Any,
    v: Any,
    u: Any,
    scale: Any,
    batch_sizes: Any,
    h: Any,
    c: Any,
    y: Any,
    reverse: bool,
) -> None:
    """One layer in one direction over packed frames, in place.

    Args:
        gates: (N, 4H), the input's product with both biases; overwritten.
        v: (r, H), float32 or int8.
        u: (r, 4H), U transposed; float32 or int8.
        scale: (r), what every component is multiplied by: the matrix is U diag(scale) V.
        batch_sizes: (T), int64, sequences alive at each step, as in a PackedSequence.
        h, c: (B, H), states before; those after, of every sequence, when it returns.
        y: (N, H), for the outputs.
        reverse: from the last step to the first.
        All others are float32, and all are contiguous.
    """
    steps = len(batch_sizes)
    z = np.empty((h.shape[0], v.shape[0]), np.float32)
    start = len(gates) if reverse else 0
    for step in range(steps):
        batch = batch_sizes[steps - 1 - step if reverse else step]
        if reverse:
            start -= batch
        now = gates[start : start + batch]
        _rows(v, h, z, batch)
        for b in range(batch):
            for k in range(len(scale)):
                z[b, k] *= scale[k]
        _widen(u, z, now, batch)
        _cells(now, h, c, y[start : start + batch], batch)
        if not reverse:
            start += batch


@njit(**_COMPILED)
def _product(x: Any, u: Any, v: Any) -> Any:
    """x (U V)^T, (B, out), for a few rows x (B, in); a dense matrix is u, and v has no rows."""
    if len(v):
        z = np.empty((len(x), len(v)), np.float32)
        _rows(v, x, z, len(x))
    else:
        z = x
    out = np.empty((len(x), len(u)), np.float32)
    _rows(u, z, out, len(x))
    return out


@njit(**_COMPILED)
def lstm_cell(
    x: Any, h: Any, c: Any, u_ih: Any, v_ih: Any, u_hh: Any, v_hh: Any, b_ih: Any, b_hh: Any
) -> Any:
    """One frame of an LSTM.

    Args:
        x: (B, in).
        h, c: (B, H).
        u_ih, v_ih, u_hh, v_hh: the matrices; a dense one is u, and its v has no rows.
        b_ih, b_hh: (4H), or empty.
    Returns:
        h and c after, (B, H).
    """
    gates, recurrent = _product(x, u_ih, v_ih), _product(h, u_hh, v_hh)
    for b in range(len(x)):
        for j in range(gates.shape[1]):
            gates[b, j] += recurrent[b, j]
        for j in range(len(b_ih)):
            gates[b, j] += b_ih[j] + b_hh[j]
    h, c = np.empty_like(h), c.copy()
    _cells(gates, h, c, h, len(x))
    return h, c
