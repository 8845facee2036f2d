"""Retrain with ESPnet's own trainer, in an ordinary ESPnet experiment folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from espnet_shrink.compat.criterion import model_name
from espnet_shrink.compat.data_lists import check_data_lists
from espnet_shrink.compat.models import find_model
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.compat.trainer import (
    train_command,
    trained_epochs,
    training_config,
    unknown_options,
)
from espnet_shrink.core.checkpoints import write_checkpoint
from espnet_shrink.core.files import write_text
from espnet_shrink.errors import ShrinkError
from espnet_shrink.training.extras import write_extras
from espnet_shrink.training.request import INIT, TrainingRequest
from espnet_shrink.training.trained import is_trained, mark_trained

# espnet2's trainer and ESPnet3's.
EPOCH_LINE = re.compile(r"(\d+)epoch(?: results: \[train\]|:valid:)")


def retrain(request: TrainingRequest) -> None:
    """Do what `request` asks for with ESPnet's own trainer.

    `request.exp` ends with config.yaml, the model that its criterion chose, train.log, ...

    Raises:
        ShrinkError: the trainer failed; its log is named.
    """
    exp, epochs = request.exp, request.epochs
    if is_trained(exp, epochs, request.state):
        return
    exp.mkdir(parents=True, exist_ok=True)
    if not (exp / INIT).exists():
        write_checkpoint(exp / INIT, request.state)
    config = retraining_config(request)
    check_data_lists(config)
    known = exp / "train.yaml"
    write_text(known, yaml.safe_dump(config, sort_keys=False))
    extras = write_extras(exp, request.extras)
    command = train_command(task_of(request.base_config, exp), known, extras)
    run_trainer(command, exp, epochs, request.ngpu)
    find_model(exp)  # the trainer may end well and leave no model
    mark_trained(exp, epochs, request.state)


def retraining_config(request: TrainingRequest) -> dict[str, Any]:
    """The config that `retrain` gives ESPnet's trainer.

    Raises:
        ShrinkError: `request.changes` has a key that is set here; extras on several GPUs.
    """
    if request.extras and request.ngpu > 1:
        # ESPnet starts a process for every GPU, in which nothing of ours would ride along.
        raise ShrinkError(
            f"--ngpu {request.ngpu}: a {next(iter(request.extras))} rides along on one GPU: give "
            "--ngpu 1, or leave distil out of the rounds preset"
        )
    base, changes = request.base_config, request.changes
    set_here = {
        "output_dir": str(request.exp),
        "init_param": [str(request.exp / INIT)],
        "ignore_init_mismatch": False,
        "max_epoch": request.epochs,
        "patience": None,
        "scheduler": "cosineannealinglr",
        "scheduler_conf": {"T_max": request.epochs},
        # One best epoch: with so few, an average would mix in the ones that had not recovered.
        "keep_nbest_models": [1],
        "resume": True,
        "ngpu": request.ngpu,
    }
    taken = sorted(changes.keys() & set_here.keys())
    if taken:
        raise ShrinkError(
            f"train: {taken[0]} is set by retraining itself (by epochs, learning_rate and the "
            "folder): leave it out of the rounds preset"
        )
    conf = changes.get("optim_conf") or {}
    if changes.get("optim", base.get("optim")) == base.get("optim"):
        conf = {**(base.get("optim_conf") or {}), **conf}  # else they are another's
    config = training_config(
        base,
        {
            "num_att_plot": 0, **changes, **set_here,
            "optim_conf": {**conf, "lr": request.learning_rate},
        },
    )  # fmt: skip
    unknown = set(unknown_options(task_of(base, request.exp), config))
    return {key: value for key, value in config.items() if key not in unknown}


def leave_untrained(
    base_config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    exp: Path,
    changes: Mapping[str, Any],
) -> None:
    """Make the experiment folder that `retrain` would make in no epochs: `state` as it is."""
    config = {**base_config, **changes, "max_epoch": 0}
    write_checkpoint(exp / model_name(config), state)
    write_text(exp / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def run_trainer(command: list[str], exp: Path, epochs: int, ngpu: int) -> None:
    """Run `command` to its end, its output in `exp`/train.log, with a bar that counts epochs.

    Raises:
        ShrinkError: it failed; its log is named.
    """
    environment = dict(os.environ)
    if ngpu == 0:
        # ESPnet's path.sh sets one thread, which suits many decoding jobs, not one training.
        environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    if shutil.which("setpriv"):
        # Killed with us: an orphan would go on writing into the folder of the run that follows.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    log = exp / "train.log"
    with log.open("ab") as sink, log.open(encoding="utf-8", errors="replace") as source:
        source.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with tqdm(
                total=epochs, initial=trained_epochs(exp), desc=f"training {exp.name}", unit="epoch"
            ) as bar:
                while process.poll() is None:
                    time.sleep(0.3)
                    _follow(source, bar)
                _follow(source, bar)
        finally:
            if process.poll() is None:  # our own end must not leave a trainer behind
                process.terminate()
                process.wait()
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ShrinkError(
            f"training in {exp} failed ({lines[-1] if lines else 'no output'}): see {log}"
            + _if_disk_is_full(exp)
        )


def _if_disk_is_full(exp: Path) -> str:
    """Say so if a training checkpoint does not fit: torch's own words for it are obscure."""
    free_mib = shutil.disk_usage(exp).free / 2**20
    checkpoint_mib = 3 * (exp / INIT).stat().st_size / 2**20  # the weights and Adam's two moments
    if free_mib > checkpoint_mib + 1:
        return ""
    return f"; its disk has only {free_mib:.1f} MiB left: free some and run again"


def _follow(source: Any, bar: Any) -> None:
    for line in source.readlines():
        found = EPOCH_LINE.search(line)
        if found:
            bar.update(int(found.group(1)) - bar.n)
            values = re.search(r"valid.*?\bacc=([\d.]+).*?\bloss=([\d.]+)", line)
            if values:
                bar.set_postfix_str(f"valid acc {values.group(1)} loss {values.group(2)}")
