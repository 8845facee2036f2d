"""Rewards: from errors and parameters to the number that REINFORCE raises.

With A = 1 - errors / 100 and x = params / budget - 1, the relative excess over the budget:

    hard          A                    the budget is kept by clipping the actions (AMC, 1802.03494)
    soft          A - 2 max(0, x)      an excess costs in proportion, and can be paid for
    constant      A if x <= 0 else -1  any excess earns the same punishment
    proportional  A if x <= 0 else -x  the punishment grows with the excess, errors do not count

All but "hard" leave the actions free, so plans over the budget are tried; none is ever chosen.
"""

from __future__ import annotations

from collections.abc import Callable

SOFT_WEIGHT = 2.0


def hard(errors: float, excess: float) -> float:
    """Accuracy alone. `errors` in percent, `excess` relative to the budget."""
    return 1.0 - errors / 100.0


def soft(errors: float, excess: float) -> float:
    """Accuracy less a price for the excess."""
    return hard(errors, excess) - SOFT_WEIGHT * max(0.0, excess)


def constant(errors: float, excess: float) -> float:
    """Accuracy within the budget, else -1."""
    return hard(errors, excess) if excess <= 0.0 else -1.0


def proportional(errors: float, excess: float) -> float:
    """Accuracy within the budget, else minus the excess."""
    return hard(errors, excess) if excess <= 0.0 else -excess


REWARDS: dict[str, Callable[[float, float], float]] = {
    "hard": hard,
    "soft": soft,
    "constant": constant,
    "proportional": proportional,
}
