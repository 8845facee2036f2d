"""The classes that a config may name: ESPnet's choices of its encoders, optimizers and so on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.compat.tasks import Task
from espnet_shrink.errors import ShrinkError


def check_choices(task: Task, config: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a config.yaml that names a class which this ESPnet does not have.

    Raises:
        ShrinkError: with the names that there are.
    """
    builder = task.builder()
    from espnet2.layers.create_adapter import create_adapter_fn_table
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    for choices in builder.class_choices_list:
        _check(path, choices.name, config.get(choices.name), choices.classes)
    _check(path, "adapter", config.get("adapter"), create_adapter_fn_table)
    for key, classes in (("optim", optim_classes), ("scheduler", scheduler_classes)):
        name = config.get(key)
        if isinstance(name, dict) and "_target_" in name:
            continue  # ESPnet3's, which its own trainer reads
        # The trainer's parser takes these in capitals, too.
        _check(path, key, name.lower() if isinstance(name, str) else name, classes)


def _check(path: str | Path, key: str, name: Any, known: Collection[str]) -> None:
    # null leaves a part out. By list: a name may be of a type that has no hash.
    if name is not None and name not in list(known):
        raise ShrinkError(f"{path}: unknown {key} {name!r}: this ESPnet has {', '.join(known)}")
