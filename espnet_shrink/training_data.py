"""The data that a model is retrained on: a folder of the user's, or what its config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from espnet_shrink.compat.data_lists import check_data_lists
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import text_codec
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import write_text
from espnet_shrink.proxy.kaldi import Utterance, read_folder

TASKS = ("asr", "asr_transducer", "slu")  # whose training reads speech and text, and no more


def training_data(
    loaded: LoadedModel, train: Path | None, valid: Path, out: Path, preset: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys for a training config: the data of `train` and `valid`, with shapes written to `out`.

    Args:
        train: Kaldi-style folder; None: the data that the preset or the model's config names.
        preset: the `train` section of a rounds preset; it has the last word.
    Returns:
        `preset` with the keys that were found.

    Raises:
        ShrinkError: no training data, bad data, or a task that trains on more than speech and text.
    """
    if train is None:
        if "train_data_path_and_name_and_type" not in preset:
            _check_own(loaded)
        check_data_lists({**vars(loaded.args), **preset})
        return dict(preset)
    if loaded.task.name not in TASKS:
        raise ShrinkError(
            f"--train gives speech and text, but a model of the task {loaded.task.name} trains on "
            "more: name its data in a rounds preset (train:), or give --no-retrain"
        )
    keys: dict[str, Any] = {}
    for name, folder in (("train", train), ("valid", valid)):
        utterances = read_folder(folder)
        keys[f"{name}_data_path_and_name_and_type"] = [
            [str(folder / "wav.scp"), "speech", "sound"],
            [str(folder / "text"), "text", "text"],
        ]
        keys[f"{name}_shape_file"] = _shapes(loaded, utterances, out / name)
    check_data_lists({**vars(loaded.args), **keys, **preset})
    return {**keys, **preset}


def _check_own(loaded: LoadedModel) -> None:
    named = getattr(loaded.args, "train_data_path_and_name_and_type", None) or []
    missing = [path for path, *_ in named if not Path(path).exists()]
    if missing or not named:
        what = f"{missing[0]} is not here" if missing else "its config names none"
        raise ShrinkError(
            f"the data that {loaded.config} was trained on is needed to retrain it, and {what}: "
            "give a folder of training data (--train DIR), or --no-retrain"
        )


def _shapes(loaded: LoadedModel, utterances: Sequence[Utterance], folder: Path) -> list[str]:
    """The lengths that ESPnet makes batches by."""
    codec, vocabulary = text_codec(loaded), len(loaded.args.token_list)
    speech, text = [], []
    for u in utterances:
        speech.append(f"{u.name} {soundfile.info(u.audio).frames}")
        text.append(f"{u.name} {len(codec.to_ids(u.text))},{vocabulary}")
    write_text(folder / "speech_shape", "\n".join(speech) + "\n")
    write_text(folder / "text_shape", "\n".join(text) + "\n")
    return [str(folder / "speech_shape"), str(folder / "text_shape")]
