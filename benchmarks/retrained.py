"""One retraining of a factorised model, the same for all that are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import model_hash
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.training.espnet2 import retrain
from espnet_shrink.training.learning_rate import start_rate
from espnet_shrink.training.request import TrainingRequest


def retrained(
    base: LoadedModel,
    small: LoadedModel,
    folder: Path,
    epochs: int,
    learning_rate_factor: float,
    **config: Any,
) -> LoadedModel:
    """`small`, which is `base` factorised, after `epochs` in `folder`; resumes.

    Args:
        config: further changes of the config of `base`.
    """
    changes = {
        **config,
        **adapter_config(adapter_conf(plan_of(small.model), model_hash(base.model))),
    }
    rate = start_rate(base.config, 0.0, learning_rate_factor, {}).value
    state = small.model.state_dict()
    retrain(TrainingRequest(read_yaml(base.config), state, folder, epochs, rate, changes=changes))
    return load_model(*find_model(folder))
