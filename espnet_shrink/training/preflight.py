"""Retraining, up to its first step, before the search that comes first."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.named_files import check_named_files
from espnet_shrink.compat.trainer import (
    parse_training,
    training_config,
    try_training,
    unknown_options,
)
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.out_folder import check_disk
from espnet_shrink.core.random_state import kept_random_state
from espnet_shrink.data.training_data import TrainingData, check_there, training_data
from espnet_shrink.errors import ShrinkError
from espnet_shrink.training.espnet2 import retraining_config
from espnet_shrink.training.extras.distil import teacher_extra
from espnet_shrink.training.request import TrainingRequest
from espnet_shrink.training.rounds_settings import RoundsSettings


def check_retraining(
    loaded: LoadedModel,
    train: Path | None,
    valid: Path,
    out: Path,
    settings: RoundsSettings,
    ngpu: int,
) -> TrainingData:
    """Make sure that `loaded` can be retrained; gives the data to train on.

    Args:
        train: Kaldi-style folder; None: what the settings or the model's config name.
        valid: dev set; validation data if `train` is given.

    Raises:
        ShrinkError: whatever would fail later: the learning rate is not known, files are missing,
            data or options that do not fit, no space, a teacher without what it shall teach.
    """
    check_named_files(loaded.described, loaded.config)
    if train is None:
        check_there(loaded, settings.train)  # before every header is read
    rate = settings.start_rate(loaded.config)
    extras = teacher_extra(settings.distil, loaded)
    if extras:
        tqdm.write(f"teacher: the uncompressed model teaches {settings.distil}")
    check_disk(out, sum(4 * p.numel() for p in loaded.model.parameters()) / 2**20)
    if ngpu > torch.cuda.device_count():
        raise ShrinkError(
            f"--ngpu {ngpu}, but torch sees {torch.cuda.device_count()} GPUs here: give fewer"
        )
    data = training_data(loaded, train, valid, settings.train)
    base, task = read_yaml(loaded.config), loaded.task
    # A search must not depend on what was tried before.
    with tempfile.TemporaryDirectory() as scratch, kept_random_state():
        keys = data.write(Path(scratch))
        request = TrainingRequest(
            base, loaded.model.state_dict(), out / "round1", settings.final_epochs, rate.value,
            ngpu, keys, extras,
        )  # fmt: skip
        try_training(task, parse_training(task, retraining_config(request)), loaded.model)
    left_out = unknown_options(task, training_config(base, keys))
    if left_out:
        tqdm.write(
            f"left out of retraining, as this ESPnet has no such options: {', '.join(left_out)}"
        )
    return data
