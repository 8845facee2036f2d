"""One frame of an LSTM and of a GRU, from the products of their matrices; torch's gate order."""

from __future__ import annotations

from torch import Tensor


def lstm_step(from_input: Tensor, from_state: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM's step.

    Args:
        from_input: W_ih x + b_ih, (..., 4H): gates i, f, g, o.
        from_state: W_hh h + b_hh, (..., 4H).
        c: cell state before, (..., H).
    Returns:
        h and c after, (..., H).
    """
    i, f, g, o = (from_input + from_state).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    """A GRU's step.

    Args:
        from_input: W_ih x + b_ih, (..., 3H): gates r, z, n.
        from_state: W_hh h + b_hh, (..., 3H).
        h: state before, (..., H).
    Returns:
        h after, (..., H).
    """
    r, z, n = from_input.chunk(3, -1)
    r_h, z_h, n_h = from_state.chunk(3, -1)
    z = (z + z_h).sigmoid()
    n = (n + (r + r_h).sigmoid() * n_h).tanh()
    return n + z * (h - n)
