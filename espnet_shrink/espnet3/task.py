"""The task that ESPnet3's trainer builds compressed models with.

espnet2's trainer puts adapters into a model and reads --init_param; ESPnet3's does neither, but
it builds the model through the class that `task` of the training config names, and copies the
`model` section into the config.yaml that inference reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, ClassVar

from espnet_shrink.compat.espnet3 import ASRTask, create_adapter
from espnet_shrink.core.checkpoints import read_checkpoint
from espnet_shrink.errors import ShrinkError
from espnet_shrink.training.extras import Extra, wrap_all


class ShrunkASRTask(ASRTask):
    """ESPnet3's ASR task, with `use_adapter` and `init_param` in the `model` section.

    Attributes:
        extras: what rides along with the models that this process builds.
    """

    extras: ClassVar[Sequence[Extra]] = ()

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        """Build the model, give it its adapter, and fill it.

        Raises:
            ShrinkError: a checkpoint in `init_param` that is not all of the model.
        """
        model = super().build_model(args)
        wrap_all(cls.extras, model)
        if args.use_adapter:
            create_adapter(model, args.adapter, args.adapter_conf)
        for path in args.init_param:
            try:
                model.load_state_dict(read_checkpoint(path))
            except RuntimeError as error:
                detail = " ".join(str(error).split())[:400]
                raise ShrinkError(
                    f"{path} does not fit the model of the training config: {detail}: "
                    "give the config that the model was trained with"
                ) from error
        return model


TASKS = {
    "espnet3.systems.esp2_asr.task.ASRTask": ShrunkASRTask,
    "espnet2.tasks.asr.ASRTask": ShrunkASRTask,
}


def shrunk_task(task: str | None) -> str:
    """The dotted path of the class that stands in for `task` of a training config.

    Raises:
        ShrinkError: a model that is not built by one of these tasks.
    """
    if task not in TASKS:
        raise ShrinkError(
            f"`task` of the training config is {task}: models that can be retrained in ESPnet3 "
            f"are built by {' or '.join(TASKS)}"
        )
    found = TASKS[task]
    return f"{found.__module__}.{found.__qualname__}"
