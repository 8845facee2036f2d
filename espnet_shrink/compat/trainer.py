"""ESPnet's own trainer: its configs, its commands, what it leaves."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.compat.tasks import Task


def training_config(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config for asr_train that repeats the training of config.yaml `base` with `changes`."""
    unknown_to_the_parser = {"version", "config"}
    # Set by the launcher for the machine of the first training.
    launch = {key for key in base if key.startswith("dist_")} | {"distributed", "required"}
    kept = {k: v for k, v in base.items() if k not in unknown_to_the_parser | launch}
    return {**kept, **changes}


def train_command(task: Task, config: Path) -> list[str]:
    """The command that runs ESPnet's own trainer with the plugin on a config file."""
    return [sys.executable, "-m", "espnet_shrink.run", "--debug", "-m", task.train_module,
            "--config", str(config)]  # fmt: skip


def planned_epochs(config: Mapping[str, Any]) -> int:
    """Epochs that a config.yaml asks for; ESPnet3 has them in the section of its trainer."""
    trainer = config.get("trainer")
    return int(trainer["max_epochs"] if isinstance(trainer, dict) else config["max_epoch"])


def trained_epochs(exp: Path) -> int:
    """Epochs that the trainer has finished in `exp`; 0 if it left no Nepoch.pth."""
    # checkpoint.pth knows it too, but holds pickled objects. The last epoch's model is never
    # deleted, however few are kept.
    names = [re.fullmatch(r"(\d+)epoch\.pth", path.name) for path in exp.glob("*epoch.pth")]
    return max((int(name.group(1)) for name in names if name), default=0)
