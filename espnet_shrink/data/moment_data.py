"""The recordings whose activations whiten: of the training set, not those that plans are scored on.

A decomposition that has seen the utterances on which plans are compared would flatter them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.archive import audio_file
from espnet_shrink.data.kaldi import Utterance, read_table
from espnet_shrink.errors import ShrinkError

DATA = "train_data_path_and_name_and_type"
SPEECH, TEXT = "speech", "text"
AUDIO = ("sound", "kaldi_ark")  # ESPnet's types of lists of audio


class Whitening(Protocol):
    """What is read of a search's settings."""

    @property
    def decomposition(self) -> str: ...

    @property
    def seed(self) -> int: ...


def training_recordings(
    loaded: LoadedModel, train: Mapping[str, Any], count: int, settings: Whitening
) -> list[Utterance]:
    """At most `count` utterances of the training data, at random; none if it is not here.

    What is taken in its place, the proxy set, is said then, and why.

    Args:
        train: keys of a training config; where they name no data, the model's own config does.
        settings: of the search; one that does not whiten needs none.
    """
    if settings.decomposition != "whitened":
        return []
    named = train.get(DATA) or getattr(loaded.args, DATA, None) or []
    try:
        return _some(named, count, settings.seed)
    except (ShrinkError, OSError) as error:
        tqdm.write(f"whitening by the proxy set's own activations, not by training audio: {error}")
        return []


def _some(named: Any, count: int, seed: int) -> list[Utterance]:
    tables = {}
    for entry in named:
        path, name, kind = entry.split(",") if isinstance(entry, str) else entry
        if name == SPEECH and kind not in AUDIO:
            raise ShrinkError(f"{path} is of the type {kind}, not {' or '.join(AUDIO)}")
        tables[name] = read_table(Path(path))
    if not {SPEECH, TEXT} <= tables.keys():
        raise ShrinkError("the config names no training data of speech and text")
    speech, text = tables[SPEECH], tables[TEXT]
    names = sorted(
        n for n, path in speech.items() if text.get(n) and Path(audio_file(path)).is_file()
    )
    if not names:
        raise ShrinkError("none of the files that the training data names is here")
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return [Utterance(n, speech[n], text[n], n) for n in (names[i] for i in sorted(chosen))]
