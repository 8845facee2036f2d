"""An ESPnet experiment of a Whisper checkpoint: its config, with a token list, and its weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.compat.whisper.package import N_MELS
from espnet_shrink.compat.whisper.sizes import SIZES, name_of
from espnet_shrink.core.checkpoints import write_checkpoint
from espnet_shrink.core.files import write_text
from espnet_shrink.errors import ShrinkError, first_line

CHECKPOINT = "valid.acc.ave.pth"  # what the config's best_model_criterion names
ENGLISH_VOCABULARY = 51864  # one language less, and no token for it


@dataclass(frozen=True)
class Checkpoint:
    """What OpenAI's files hold.

    Attributes:
        sizes: `dims`.
        state: `model_state_dict`.
    """

    sizes: dict[str, int]
    state: dict[str, torch.Tensor]

    @property
    def english(self) -> bool:
        """Whether it knows English alone."""
        return self.sizes["n_vocab"] == ENGLISH_VOCABULARY


def read(model: str) -> Checkpoint:
    """Read a checkpoint of OpenAI's layout, or the one that the package whisper has for a name.

    A name's weights are downloaded, unless they are in the package's cache; it holds them against
    their checksum.

    Raises:
        ShrinkError: no such file or name, no package, or another kind of file.
    """
    path = Path(model)
    if path.is_dir():
        raise ShrinkError(f"{model} is a folder: give a file such as tiny.en.pt")
    if path.exists():
        return _of_file(path)
    try:
        import whisper
    except ImportError as error:
        raise ShrinkError("Whisper needs its package: pip install openai-whisper") from error
    names = list(whisper.available_models())
    if model not in names:
        raise ShrinkError(
            f"{model} is neither a file nor one of OpenAI's models ({', '.join(names)})"
        )
    try:
        found = whisper.load_model(model, device="cpu")
    except Exception as error:
        raise ShrinkError(
            f"the weights of {model} cannot be had: {first_line(error)}: download them elsewhere, "
            "and give the file"
        ) from error
    return _checked(vars(found.dims), found.state_dict(), model)


def _of_file(path: Path) -> Checkpoint:
    try:
        # Tensors and numbers only: nothing in the file is executed.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ShrinkError(f"{path} is no checkpoint: {first_line(error)}") from error
    if not isinstance(found, Mapping) or {"dims", "model_state_dict"} - set(found):
        raise ShrinkError(
            f"{path} is no checkpoint of OpenAI's Whisper, which has dims and model_state_dict"
        )
    return _checked(found["dims"], found["model_state_dict"], str(path))


def _checked(sizes: Mapping[str, Any], state: Mapping[str, torch.Tensor], name: str) -> Checkpoint:
    lacking = [key for key in SIZES if not isinstance(sizes.get(key), int)]
    if lacking:
        raise ShrinkError(f"{name}: its dims lack {', '.join(lacking)}")
    if sizes["n_mels"] != N_MELS:
        raise ShrinkError(
            f"{name} listens to {sizes['n_mels']} mel bands (as large-v3 and turbo do), and "
            f"ESPnet's Whisper encoder to {N_MELS}: give another model"
        )
    return Checkpoint({key: int(sizes[key]) for key in SIZES}, dict(state))


def write(found: Checkpoint, preset: Mapping[str, Any], language: str, folder: Path) -> None:
    """Write `folder`/config.yaml and `folder`/valid.acc.ave.pth.

    Args:
        preset: ESPnet's settings of training, and the cleaner.
        language: that is spoken, as ESPnet spells it, such as "de"; "en" of an English model.

    Raises:
        ShrinkError: no package, a language or a setting that ESPnet does not know, or weights of
            other sizes.
    """
    try:
        import whisper.tokenizer
    except ImportError as error:
        raise ShrinkError("Whisper needs its package: pip install openai-whisper") from error
    from espnet2.text.whisper_tokenizer import LANGUAGES_CODE_MAPPING

    if language not in LANGUAGES_CODE_MAPPING or (found.english and language != "en"):
        known = ["en"] if found.english else sorted(LANGUAGES_CODE_MAPPING)
        raise ShrinkError(f"this model does not know the language {language}: {', '.join(known)}")
    tokenizer: Any = whisper.tokenizer.get_tokenizer(multilingual=not found.english)
    tokens = tokenizer.tokenizer.vocabulary()
    if len(tokens) != found.sizes["n_vocab"]:
        raise ShrinkError(
            f"the model has {found.sizes['n_vocab']} tokens, and the tokenizer of the installed "
            f"package whisper {len(tokens)}: give another model, or install another version"
        )
    kind, sizes = "whisper_en" if found.english else "whisper_multilingual", name_of(found.sizes)
    given = {
        **preset, "token_type": kind, "bpemodel": kind, "token_list": tokens,
        "encoder": "whisper",
        "encoder_conf": {**(preset.get("encoder_conf") or {}), "whisper_model": sizes},
        "decoder": "whisper",
        "decoder_conf": {**(preset.get("decoder_conf") or {}), "whisper_model": sizes},
        "preprocessor_conf": {"whisper_language": language, "whisper_task": "transcribe"},
        "cleaner": "whisper_en" if language == "en" else "whisper_basic",
        "output_dir": str(folder),
    }  # fmt: skip
    builder = TASKS["asr"].builder()
    args = builder.get_parser().parse_args([])
    unknown = sorted({*given} - {*vars(args)})
    if unknown:
        raise ShrinkError(f"ESPnet has no such settings of training: {', '.join(unknown)}")
    vars(args).update(given)
    config = yaml.safe_dump(copy.deepcopy(vars(args)), sort_keys=False, allow_unicode=True)
    model = builder.build_model(args)
    state = {_name(key): value for key, value in found.state.items()}
    wanted = model.state_dict()
    wrong = sorted(
        {*wanted} ^ {*state}
        | {k for k in {*wanted} & {*state} if wanted[k].shape != state[k].shape}
    )
    if wrong:
        raise ShrinkError(f"the checkpoint's weights do not fit its dims: {', '.join(wrong[:5])}")
    write_checkpoint(folder / CHECKPOINT, state)
    write_text(folder / "config.yaml", config)


def _name(key: str) -> str:
    """encoder.blocks.0... -> encoder.encoders.blocks.0..., as in ESPnet's classes."""
    part, _, rest = key.partition(".")
    return f"{part}.{part}s.{rest}"
