"""The learning rate that retraining starts at: one given, or a share of the base's last one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.compat.last_rate import LOWEST, Rate, last_rate
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError


def start_rate(config: Path, learning_rate: float, factor: float, train: Mapping[str, Any]) -> Rate:
    """The learning rate to retrain the model of `config` at.

    Args:
        config: the base's config.yaml, beside what its training left.
        learning_rate: the rate itself; 0: `factor` times the last that the base was trained at.
        train: further options of the training; an `lr` in its optim_conf is the rate itself, too.

    Raises:
        ShrinkError: the base's last rate is not known.
    """
    conf = train.get("optim_conf") or train.get("optimizer")  # ESPnet3's
    own = float(conf["lr"]) if isinstance(conf, dict) and "lr" in conf else 0.0
    if own and learning_rate and own != learning_rate:
        raise ShrinkError(
            f"learning_rate is {learning_rate:g}, but train: optim_conf: lr is {own:g}: give one"
        )
    if own or learning_rate:
        return Rate(own or learning_rate, "as given")
    base = read_yaml(config)
    if train.get("optim", base.get("optim")) != base.get("optim"):
        raise ShrinkError(
            f"train: optim is {train['optim']}, but the base was trained with {base.get('optim')}, "
            "whose rate says nothing of it: give learning_rate in the rounds preset"
        )
    last = last_rate(base, config.parent)
    if last is None:
        raise ShrinkError(
            f"the last learning rate of the training of {config} is not known: no checkpoint.pth "
            f"or train.log beside it tells one of {LOWEST:g} or more, and its scheduler "
            f"({_scheduler(base)}) goes by more than its config says: give --learning_rate, "
            "or learning_rate in a rounds preset"
        )
    return Rate(last.value * factor, f"{factor:g} times {last.value:g}, by {last.source}")


def _scheduler(base: Mapping[str, Any]) -> str:
    scheduler = base.get("scheduler")
    if isinstance(scheduler, dict):  # ESPnet3's
        scheduler = scheduler.get("_target_")
    return str(scheduler or "none")
