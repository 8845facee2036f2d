"""Decode with ESPnet3's own inference, and leave the files that the report reads."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from espnet_shrink.compat.espnet3 import ASRInferenceRunner, Audio, InferenceProvider, infer
from espnet_shrink.compat.models import find_model
from espnet_shrink.core.files import write_text
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.errors import ShrinkError

SECONDS = "seconds.txt"
RTF_LOG = Path("logdir", "calculate_rtf.log")


class TimedRunner(ASRInferenceRunner):
    """ESPnet3's runner, which also notes how long every call of the model took."""

    @classmethod
    def forward(cls, idx: Any, **env: Any) -> Any:
        """Decode one utterance or a batch, and add its seconds to the folder of the test set."""
        start = time.perf_counter()
        result = super().forward(idx, **env)
        with Path(env["output_dir"], SECONDS).open("a") as log:  # workers append by turns
            log.write(f"{time.perf_counter() - start:.6f}\n")
        return result


def decode(inference: DictConfig, exp: Path, tag: str, references: Path) -> list[str]:
    """Decode the test sets of an inference config with the model in `exp`, unless that is done.

    Leaves SET/text and SET/logdir/calculate_rtf.log in `exp`/`tag`, and the reference texts in
    `references`/SET/text.

    Returns:
        The names of the test sets.

    Raises:
        ShrinkError: no model in `exp`, or a runner of the recipe's own.
    """
    runner = f"{ASRInferenceRunner.__module__}.{ASRInferenceRunner.__qualname__}"
    if inference.runner["_target_"] != runner:
        raise ShrinkError(
            f"runner of the inference config is {inference.runner['_target_']}: "
            f"only {runner} can be timed for the report"
        )
    config = copy.deepcopy(inference)
    out = exp / tag
    names = [str(entry.name) for entry in config.dataset.test]
    if all((out / name / RTF_LOG).exists() for name in names):
        return names
    # ESPnet3 would take up an interrupted decoding, whose times are lost.
    shutil.rmtree(out, ignore_errors=True)
    config.exp_dir, config.inference_dir = str(exp), str(out)
    config.model.asr_train_config, config.model.asr_model_file = map(str, find_model(exp))
    config.runner["_target_"] = f"{TimedRunner.__module__}.{TimedRunner.__qualname__}"
    infer(config)
    for name in names:
        config.test_set = name
        _write_for_report(InferenceProvider.build_dataset(config), out / name, references / name)
    return names


def _write_for_report(dataset: Any, folder: Path, references: Path) -> None:
    text = (folder / "text.scp").read_text(encoding="utf-8")
    names = list(read_table(folder / "text.scp"))
    items = [dataset[index] for index in range(len(dataset))]
    lines = [f"{name} {item['text']}" for name, item in zip(names, items, strict=True)]
    audio_s = sum(Audio.coerce(item["speech"], 16000).duration for item in items)
    decoding_s = sum(map(float, (folder / SECONDS).read_text().split()))
    write_text(references / "text", "\n".join(lines) + "\n")
    write_text(folder / "text", text)
    write_text(folder / RTF_LOG, f"RTF: {decoding_s / audio_s:.3f}\n")  # last: all is there
