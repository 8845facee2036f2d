"""What a trainer is asked for; ESPnet2's and ESPnet3's stand behind the same request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

INIT = "init.pth"


@dataclass(frozen=True)
class TrainingRequest:
    """Train `state` for `epochs` epochs as `base_config` did, into `exp`; resume if cut off.

    Attributes:
        base_config: config.yaml of the first training.
        state: the state dict to start from, kept in `exp`/init.pth.
        exp: experiment folder; it ends as the base's folder did.
        learning_rate: the rate to start at; it falls along half a cosine.
        changes: further config keys, such as the data and the adapter.
        extras: name -> settings of what rides along, as training.extras reads them.
    """

    base_config: Mapping[str, Any]
    state: Mapping[str, torch.Tensor]
    exp: Path
    epochs: int
    learning_rate: float
    ngpu: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Retrain = Callable[[TrainingRequest], None]
"""A trainer; raises ShrinkError, which names its log, if it fails."""
