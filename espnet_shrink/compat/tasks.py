"""ESPnet's tasks whose models can be compressed, and how to tell which one a config is of."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.errors import ShrinkError


@dataclass(frozen=True)
class Task:
    """One of ESPnet's tasks.

    Attributes:
        name: as in espnet2.tasks.NAME, espnet2.bin.NAME_train and NAME_train_config of a zip.
        class_name: the task's class in espnet2.tasks.NAME.
        packed_as: first word of the keys in a packed model (asr_train_config, asr_model_file).
        inference: module in espnet2.bin and class that decode.
    """

    name: str
    class_name: str
    packed_as: str
    inference: tuple[str, str]

    def builder(self) -> Any:
        """The task's class, with `build_model_from_file` and its kin."""
        # At import, ESPnet tells what it could also use, and g2p_en asks the network for data
        # that no recogniser needs; both would drown our own lines.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            module = importlib.import_module(f"espnet2.tasks.{self.name}")
        return getattr(module, self.class_name)

    @property
    def train_module(self) -> str:
        """The program that trains it."""
        return f"espnet2.bin.{self.name}_train"


TASKS = {
    task.name: task
    for task in (
        Task("asr", "ASRTask", "asr", ("asr_inference", "Speech2Text")),
        Task(
            "asr_transducer",
            "ASRTransducerTask",
            "asr",
            ("asr_transducer_inference", "Speech2Text"),
        ),
        Task("lm", "LMTask", "lm", ("lm_inference", "GenerateText")),
        Task("s2t", "S2TTask", "s2t", ("s2t_inference", "Speech2Text")),
        Task("st", "STTask", "st", ("st_inference", "Speech2Text")),
        Task("slu", "SLUTask", "slu", ("slu_inference", "Speech2Understand")),
    )
}


def task_of(config: Mapping[str, Any], path: str | Path) -> Task:
    """The task of a config.yaml, told by keys that only one task's options have.

    Raises:
        ShrinkError: not the config of a model of these tasks.
    """
    if "token_list" in config:
        if "lm" in config and "encoder" not in config:
            return TASKS["lm"]
        if "joint_network_conf" in config:
            return TASKS["asr_transducer"]
        if "encoder" in config and not config.keys() & {"promptencoder", "tts", "enh_encoder"}:
            if config.get("preprocessor") == "s2t":
                return TASKS["s2t"]
            if "extra_asr_decoder" in config:
                return TASKS["st"]
            if "postdecoder" in config or "deliberationencoder" in config:
                return TASKS["slu"]
            if "src_token_list" not in config:
                return TASKS["asr"]
    raise ShrinkError(
        f"{path} is not the config.yaml of a trained ESPnet model of the tasks {', '.join(TASKS)}"
    )
