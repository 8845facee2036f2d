"""ESPnet3's dev set as a Kaldi-style folder, which the proxy set and the rounds read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tqdm import tqdm

from espnet_shrink.compat.espnet3 import Audio, instantiate_dataset_reference
from espnet_shrink.core.files import write_atomically
from espnet_shrink.data.kaldi import Utterance, write_folder
from espnet_shrink.errors import ShrinkError


def write_dev_set(dataset: Any, recipe_dir: str, folder: Path, rate_hz: int) -> None:
    """Write every utterance of `dataset.valid` to `folder`, unless it is there already.

    The samples are kept as floats, so that the model hears what ESPnet3's trainer gave it.

    Args:
        dataset: the `dataset` section of a training config.
        recipe_dir: where local dataset modules are found.
        folder: gets wav/, wav.scp, text, utt2spk and spk2utt.
        rate_hz: the model's sampling rate; audio that says another is resampled.

    Raises:
        ShrinkError: no dev set, or one whose items are not one channel of speech with a text.
    """
    if (folder / "spk2utt").exists():  # written last
        return
    if not dataset.get("valid"):
        raise ShrinkError("the training config has no dataset.valid: plans are scored on it")
    utterances = []
    for number, entry in enumerate(dataset.valid):
        items = instantiate_dataset_reference(
            OmegaConf.to_container(entry, resolve=True), recipe_dir=recipe_dir
        )
        transform = instantiate(entry.transform) if entry.get("transform") else None
        for index in tqdm(range(len(items)), desc="dev set", unit="utterance"):
            item = items[index] if transform is None else transform(items[index])
            name = f"valid{number}-{index:06}"
            utterances.append(_write_utterance(item, name, folder / "wav", rate_hz))
    write_folder(folder, utterances)


def _write_utterance(item: Any, name: str, folder: Path, rate_hz: int) -> Utterance:
    if not {"speech", "text"} <= set(item):
        raise ShrinkError(
            f"{name} of dataset.valid has the fields {', '.join(sorted(item))}: "
            "a recogniser is scored on speech and text"
        )
    audio = Audio.coerce(item["speech"], rate_hz)
    if audio.channels != 1:
        raise ShrinkError(f"{name} of dataset.valid has {audio.channels} channels: give one")
    path = folder / f"{name}.wav"
    with write_atomically(path) as beside:
        soundfile.write(beside, audio.array, rate_hz, subtype="FLOAT")
    return Utterance(name, str(path), str(item["text"]), name)
