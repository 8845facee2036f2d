"""How rounds go on: the steps to the target, and what each may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_shrink.compat.last_rate import Rate
from espnet_shrink.core.settings import require
from espnet_shrink.training.extras.distil import Distil
from espnet_shrink.training.learning_rate import start_rate


@dataclass(frozen=True)
class RoundsSettings:
    """How to go on (conf/rounds.yaml explains every key)."""

    target: float = 5.0
    step: float = 2.3
    epochs: int = 2
    final_epochs: int = 6
    learning_rate: float = 0.0
    learning_rate_factor: float = 0.5
    wer_limit_relative: float = 0.1
    wer_limit_absolute: float = 0.5
    rollbacks: int = 2
    control: bool = True
    distil: Distil = field(default_factory=Distil)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            1.0 < self.target < math.inf, f"target compression must be above 1, not {self.target:g}"
        )
        require(self.step > 1.0, f"step must be above 1, not {self.step:g}")
        require(self.epochs >= 1, "epochs must be at least 1")
        require(self.final_epochs >= 1, "final_epochs must be at least 1")
        require(0.0 <= self.learning_rate < math.inf, "learning_rate must not be negative")
        require(self.learning_rate_factor > 0.0, "learning_rate_factor must be above 0")
        require(
            self.wer_limit_relative >= 0.0 and self.wer_limit_absolute >= 0.0,
            "WER limits must not be negative",
        )
        require(self.rollbacks >= 0, "rollbacks must not be negative")

    def first_goal(self) -> float:
        """The compression that the first round aims at."""
        return next_goal(1.0, self.step, self.target)

    def start_rate(self, config: Path) -> Rate:
        """The learning rate to retrain the model of a config.yaml at."""
        return start_rate(config, self.learning_rate, self.learning_rate_factor, self.train)

    def reaches_target(self, goal: float) -> bool:
        """Whether a round that aims at `goal` is the last."""
        return goal >= self.target * (1 - 1e-6)

    def epochs_for(self, goal: float) -> int:
        """Retraining epochs of a round that aims at `goal`."""
        return self.final_epochs if self.reaches_target(goal) else self.epochs


def next_goal(now: float, step: float, target: float) -> float:
    """The compression of the next round: equal factors, none above `step`, that end at `target`."""
    rounds_left = max(1, math.ceil(math.log(target / now) / math.log(step) - 1e-9))
    return now * (target / now) ** (1.0 / rounds_left)
