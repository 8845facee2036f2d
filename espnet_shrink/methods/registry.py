"""The compression methods there are: one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import LOWRANK

if TYPE_CHECKING:  # it imports torch, which the help of a command does not need
    from espnet_shrink.methods.base import Method


def _low_rank() -> Method:
    from espnet_shrink.methods.lowrank.method import LowRank

    return LowRank()


METHODS: dict[str, Callable[[], Method]] = {LOWRANK: _low_rank}


def method_of(name: str) -> Method:
    """The method called `name`.

    Raises:
        ShrinkError: there is none.
    """
    if name not in METHODS:
        raise ShrinkError(f"unknown method {name}: choose of {', '.join(METHODS)}")
    return METHODS[name]()
