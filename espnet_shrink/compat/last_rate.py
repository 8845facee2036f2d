"""The learning rate that a training ended with: from its checkpoint, its log, or its schedule."""

from __future__ import annotations

import collections
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_shrink.compat.trainer import trained_epochs

LOWEST = 1e-8  # of a schedule that has run out, such as half a cosine: nothing is learned there
# espnet2's and ESPnet3's reporters; old versions of espnet2 said lr_0.
LOG_LINE = re.compile(r"\b(?:optim0_lr0|lr_0)=([\d.]+(?:e[+-]?\d+)?)")


@dataclass(frozen=True)
class Rate:
    """A learning rate, and where it was found."""

    value: float
    source: str


def last_rate(config: Mapping[str, Any], folder: Path) -> Rate | None:
    """The last learning rate of the training that left `config` in `folder`; None: not known."""
    return _of_checkpoint(folder) or _of_log(folder) or _of_schedule(config, folder)


class _Inert:
    """Stands for whatever a pickle names: nothing of it is imported or called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Of a pickled list's kin."""

    def extend(self, items: Any) -> None:
        """Of a pickled list's kin."""

    def add(self, item: Any) -> None:
        """Of a pickled set's kin."""


class _PlainData(pickle.Unpickler):
    """Reads numbers, texts, lists and dicts of a pickle, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        ordered = (module, name) == ("collections", "OrderedDict")
        return collections.OrderedDict if ordered else type("Inert", (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        return None  # a tensor's numbers, which stay unread


def _of_checkpoint(folder: Path) -> Rate | None:
    """From the optimiser's state in checkpoint.pth, or last.ckpt of ESPnet3."""
    for name, key in (("checkpoint.pth", "optimizers"), ("last.ckpt", "optimizer_states")):
        try:
            with zipfile.ZipFile(folder / name) as archive:
                (member,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
                with archive.open(member) as content:
                    state = _PlainData(content).load()
            rate = state[key][0]["param_groups"][0]["lr"]
        # Not there, of an old format, or of another shape: the log may know.
        except (OSError, zipfile.BadZipFile, ValueError, pickle.UnpicklingError, EOFError,
                AttributeError, LookupError, TypeError):  # fmt: skip
            continue
        if _is_rate(rate):
            return Rate(float(rate), f"the optimiser in {folder / name}")
    return None


def _of_log(folder: Path) -> Rate | None:
    """From the last line of a log that tells one."""
    for log in sorted(folder.glob("train*.log"), key=lambda path: path.stat().st_mtime)[::-1]:
        rates = [0.0]
        with log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                rates += [float(found) for found in LOG_LINE.findall(line)[-1:]]
        used = [rate for rate in rates if _is_rate(rate)]
        if used:
            return Rate(used[-1], str(log))
    return None


def _of_schedule(config: Mapping[str, Any], folder: Path) -> Rate | None:
    """From the optimiser's and scheduler's settings, if they and the updates tell it."""
    optimiser = _optimiser(config)
    if optimiser is None:
        return None
    source = "the config's optimiser"
    if config.get("scheduler") is not None:
        epochs = trained_epochs(folder)
        if not epochs and config.get("patience") is None:
            epochs = int(config.get("max_epoch") or 0)
        if not epochs or not _run(config, optimiser, epochs):
            return None
        source = f"the config's scheduler {config['scheduler']} after {epochs} epochs"
    rate: Any = optimiser.param_groups[0].get("lr")
    return Rate(float(rate), source) if _is_rate(rate) else None


def _optimiser(config: Mapping[str, Any]) -> torch.optim.Optimizer | None:
    from espnet2.tasks.abs_task import optim_classes

    weight = torch.nn.Parameter(torch.zeros(1))
    name, conf = config.get("optim"), config.get("optim_conf") or {}
    if not isinstance(name, str):  # ESPnet3's trainer makes it from a class's name
        return None
    try:
        made: torch.optim.Optimizer = optim_classes[name.lower()]([weight], **conf)
    except (TypeError, ValueError, KeyError):
        return None  # another version's: preflight says what is wrong with it
    return made


def _run(config: Mapping[str, Any], optimiser: torch.optim.Optimizer, epochs: int) -> bool:
    """Let the scheduler go to its last step; gives whether that is known."""
    from espnet2.schedulers.abs_scheduler import (
        AbsBatchStepScheduler,
        AbsValEpochStepScheduler,
    )
    from espnet2.schedulers.warmup_step_lr import WarmupStepLR
    from espnet2.tasks.abs_task import scheduler_classes

    try:
        kind = scheduler_classes[str(config["scheduler"]).lower()]
        scheduler = kind(optimiser, **(config.get("scheduler_conf") or {}))
    except (TypeError, ValueError, KeyError):
        return False
    if isinstance(scheduler, AbsValEpochStepScheduler):
        return False  # goes by what validation gave
    steps = epochs - 1
    if isinstance(scheduler, AbsBatchStepScheduler):
        iterations = int(config.get("num_iters_per_epoch") or 0)
        if not iterations:
            return False
        steps = epochs * (iterations // int(config.get("accum_grad") or 1))
        if not isinstance(scheduler, WarmupStepLR):  # all others know the rate of any step
            scheduler.step(steps)
            return True
    for _ in range(steps):
        scheduler.step()
    return True


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and LOWEST <= value < math.inf
