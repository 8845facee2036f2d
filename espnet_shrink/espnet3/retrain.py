"""Retrain with ESPnet3's own trainer, in an ordinary ESPnet3 experiment folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from espnet_shrink.compat.hooks import ADAPTER_KEYS
from espnet_shrink.core.checkpoints import read_checkpoint, write_checkpoint
from espnet_shrink.core.files import write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.espnet3.settings import SECTION
from espnet_shrink.espnet3.task import shrunk_task
from espnet_shrink.training.espnet2 import run_trainer
from espnet_shrink.training.extras import write_extras
from espnet_shrink.training.request import INIT, TrainingRequest
from espnet_shrink.training.trained import is_trained, mark_trained

CONFIG = "training.yaml"


def retrain(training: Mapping[str, Any], request: TrainingRequest) -> None:
    """Do what `request` asks for as the training config `training` did.

    `request.exp` ends as the base's folder did, and its training.yaml is a training config that
    ESPnet3's stages take (--training_config). Once `training` is bound, a Retrain.

    Raises:
        ShrinkError: the trainer failed; its log is named.
    """
    exp, epochs = request.exp, request.epochs
    if is_trained(exp, epochs, request.state):
        return
    config = retraining_config(training, exp, epochs, request.learning_rate, request.changes)
    exp.mkdir(parents=True, exist_ok=True)
    if not (exp / INIT).exists():
        write_checkpoint(exp / INIT, request.state)
    write_text(exp / CONFIG, yaml.safe_dump(config, sort_keys=False))
    extras = write_extras(exp, request.extras)
    command = [sys.executable, "-m", "espnet_shrink.run", "--debug"]
    command += ["-m", "espnet_shrink.espnet3.train", str(exp / CONFIG)]
    command += [] if extras is None else [str(extras)]
    run_trainer(command, exp, epochs, torch.cuda.device_count())
    _write_best(exp, config["best_model_criterion"][0][0].replace("/", "."))
    mark_trained(exp, epochs, request.state)


def _write_best(exp: Path, monitor: str) -> None:
    """Write the best epoch's model under the name of ESPnet3's average of one.

    Lightning lets the callback that averages go before the one that saves the best, so what is
    there misses the last epoch, and is missing if there was but one.
    """
    found = list(exp.glob(f"epoch*_{monitor}.ckpt"))
    if not found:
        raise ShrinkError(f"training in {exp} left no model: see {exp / 'train.log'}")
    write_checkpoint(exp / f"{monitor}.ave_1best.pth", read_checkpoint(found[0]))


def retraining_config(
    training: Mapping[str, Any],
    exp: Path,
    epochs: int,
    learning_rate: float,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """The training config `training` with what a retraining changes.

    Raises:
        ShrinkError: a training config that cannot be retrained by.
    """
    if not isinstance(training.get("optimizer"), dict) or "lr" not in training["optimizer"]:
        raise ShrinkError("the training config has no optimizer.lr: retraining sets it")
    further = {key: value for key, value in changes.items() if key not in ADAPTER_KEYS}
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.merge(training, further))  # type: ignore[assignment]
    config.pop(SECTION, None)
    monitor, _, mode = config["best_model_criterion"][0]
    config |= {
        "task": shrunk_task(config.get("task")),
        "exp_tag": f"{config['exp_tag']}_{exp.name}",
        "exp_dir": str(exp),
        "model": {
            **config["model"],
            **{key: changes[key] for key in ADAPTER_KEYS if key in changes},
            "init_param": [str(exp / INIT)],
        },
        "optimizer": {
            **config["optimizer"], "lr": learning_rate,
        },
        "scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": epochs},
        "scheduler_interval": "epoch",
        "scheduler_monitor": None,
        # One best epoch: with so few, an average would mix in the ones that had not recovered.
        "best_model_criterion": [[monitor, 1, mode]],
        "trainer": {
            # Loggers and callbacks write below the experiment folder.
            **_moved(config["trainer"], config["exp_dir"], str(exp)),
            "max_epochs": epochs, "max_steps": -1, "check_val_every_n_epoch": 1,
        },
        "fit": {"ckpt_path": "last"},  # resumes, or starts if there is none
    }  # fmt: skip
    return config


def _moved(value: Any, old: str, new: str) -> Any:
    """`value` with the folder `old` of every path in it replaced by `new`."""
    if isinstance(value, dict):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value
