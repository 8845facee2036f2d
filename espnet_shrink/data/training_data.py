"""The data that a model is retrained on: a folder of the user's, or what its config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_shrink.compat.data_lists import check_data_lists
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import text_codec
from espnet_shrink.core.files import write_text
from espnet_shrink.data.headers import check_audio, check_words
from espnet_shrink.data.kaldi import (
    Utterance,
    espnet_data_type,
    read_folder,
    read_table,
)
from espnet_shrink.errors import ShrinkError

TASKS = ("asr", "asr_transducer", "slu")  # whose training reads speech and text, and no more
SPLITS = ("train", "valid")


@dataclass(frozen=True)
class TrainingData:
    """Checked data.

    Attributes:
        keys: of a training config.
        shapes: train or valid -> name -> content of the files that ESPnet makes batches by, where
            they are to be made.
    """

    keys: Mapping[str, Any]
    shapes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the shapes below `folder`; gives all keys of the training config."""
        keys = dict(self.keys)
        for split, files in self.shapes.items():
            paths = {folder / split / name: content for name, content in files.items()}
            for path, content in paths.items():
                if not path.exists() or path.read_text(encoding="utf-8") != content:
                    write_text(path, content)
            keys[f"{split}_shape_file"] = [str(path) for path in paths]
        return keys


def training_data(
    loaded: LoadedModel, train: Path | None, valid: Path, preset: Mapping[str, Any]
) -> TrainingData:
    """The data of `train` and `valid`, every file's header and all text read once.

    Args:
        train: Kaldi-style folder; None: the data that the preset or the model's config names.
        preset: the `train` section of a rounds preset; it has the last word.

    Raises:
        ShrinkError: no training data, bad data, or a task that trains on more than speech and text.
    """
    if train is None:
        return _named(loaded, preset)
    if loaded.task.name not in TASKS:
        raise ShrinkError(
            f"--train gives speech and text, but a model of the task {loaded.task.name} trains on "
            "more: name its data in a rounds preset (train:), or give --no-retrain"
        )
    check_data_lists(preset)
    keys: dict[str, Any] = {}
    shapes = {}
    for split, folder in zip(SPLITS, (train, valid), strict=True):
        utterances = read_folder(folder)
        keys[f"{split}_data_path_and_name_and_type"] = [
            [str(folder / "wav.scp"), "speech", espnet_data_type(utterances)],
            [str(folder / "text"), "text", "text"],
        ]
        shapes[split] = {
            "speech_shape": _lengths(check_audio(loaded, utterances, folder / "wav.scp")),
            "text_shape": _text_shape(
                loaded, {u.name: u.text for u in utterances}, "text", folder / "text"
            ),
        }
    made = {split: files for split, files in shapes.items() if f"{split}_shape_file" not in preset}
    return TrainingData({**keys, **preset}, made)


def check_there(loaded: LoadedModel, preset: Mapping[str, Any]) -> None:
    """Refuse, at once, a model whose preset and config name no data that is here.

    Raises:
        ShrinkError: with what is missing, or is a pipe.
    """
    given = {**vars(loaded.args), **preset}
    check_data_lists(given)
    for split in SPLITS:
        named = given.get(f"{split}_data_path_and_name_and_type") or []
        missing = [path for path, *_ in named if not Path(path).exists()]
        if missing or not named:
            what = f"{missing[0]} is not here" if missing else "its config names none"
            raise ShrinkError(
                f"the data that {loaded.config} was trained on is needed to retrain it, and "
                f"{what}: give a folder of training data (--train DIR), or --no-retrain"
            )


def _named(loaded: LoadedModel, preset: Mapping[str, Any]) -> TrainingData:
    """What the preset or the model's config names; shapes are made if theirs are missing."""
    check_there(loaded, preset)
    given = {**vars(loaded.args), **preset}
    shapes = {}
    for split in SPLITS:
        named = given[f"{split}_data_path_and_name_and_type"]
        lengths = {
            name: check_audio(loaded, _listed(Path(path)), Path(path))
            for path, name, kind in named
            if kind in ("sound", "kaldi_ark")
        }
        files = given.get(f"{split}_shape_file") or []
        batches = given.get(f"{split}_batch_type") or given.get("batch_type")
        if [f for f in files if not Path(f).exists()] or (not files and batches != "unsorted"):
            shapes[split] = {
                f"{name}_shape": _lengths(lengths[name])
                if name in lengths
                else _shape(loaded, Path(path), name, kind)
                for path, name, kind in named
            }
    return TrainingData(dict(preset), shapes)


def _listed(scp: Path) -> list[Utterance]:
    """The utterances of a wav.scp, or of the parts that a multiple iterator takes it in."""
    parts = sorted(scp.glob("split.*")) if scp.is_dir() else [scp]
    return [
        Utterance(name, audio, "", name)
        for part in parts
        for name, audio in read_table(part).items()
    ]


def _lengths(lengths: Mapping[str, int]) -> str:
    return "".join(f"{name} {length}\n" for name, length in lengths.items())


def _shape(loaded: LoadedModel, path: Path, name: str, kind: str) -> str:
    if kind != "text" or path.is_dir():
        raise ShrinkError(
            f"{loaded.config} names shape files that are missing, and those of {path} ({kind}) "
            "cannot be made: put them back, or name them in a rounds preset (train:)"
        )
    return _text_shape(loaded, read_table(path), name, path)


def _text_shape(loaded: LoadedModel, texts: Mapping[str, str], name: str, path: Path) -> str:
    """Numbers of tokens, and the vocabulary's size, as ESPnet's statistics have them."""
    tokens: Sequence[str] = loaded.args.token_list
    if name.startswith("src_"):  # of a model that translates
        tokens = getattr(loaded.args, "src_token_list", None) or tokens
    unknown = list(tokens).index("<unk>") if "<unk>" in tokens else None
    counts = check_words(texts, _to_ids(loaded, name), unknown, path)
    return "".join(f"{utterance} {n},{len(tokens)}\n" for utterance, n in counts.items())


def _to_ids(loaded: LoadedModel, name: str) -> Callable[[str], list[int]]:
    if name == "text":
        return text_codec(loaded).to_ids
    preprocess: Any = loaded.task.builder().build_preprocess_fn(loaded.args, False)

    def to_ids(text: str) -> list[int]:
        try:
            return [int(token) for token in preprocess("", {name: text})[name]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ShrinkError(
                f"{loaded.config}: the shape file of {name} is missing and cannot be made: put it "
                "back, or name it in a rounds preset (train:)"
            ) from error

    return to_ids
