"""The hard limits that a plan must meet."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What a model may cost at most; infinite: as much as it likes.

    Attributes:
        params: all its parameters.
        size_mib: they in a checkpoint, in MiB.
        macs_per_audio_second: multiply-accumulates with weights, as `cost.Cost` counts them.
        rtf: real-time factor of greedy decoding on one thread of this machine.
    """

    params: float = math.inf
    size_mib: float = math.inf
    macs_per_audio_second: float = math.inf
    rtf: float = math.inf
