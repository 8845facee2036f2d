"""Token ids from text and back, as ESPnet makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.tags import Tags, without_tags
from espnet_shrink.compat.whisper.tokenizer import WHISPER
from espnet_shrink.errors import ShrinkError


@dataclass(frozen=True)
class Prompt:
    """What decoding starts from.

    Attributes:
        first: the first tokens.
        never: tokens that may not follow.
        transcribes: whether the text is to be in the language that is spoken.
    """

    first: list[int]
    never: tuple[int, ...] = ()
    transcribes: bool = True


@dataclass(frozen=True)
class Reference:
    """What an utterance should be decoded to.

    Attributes:
        tokens: its ids, without those of the prompt.
        prompt: what its decoding starts from.
    """

    tokens: list[int]
    prompt: Prompt


@dataclass(frozen=True)
class TextCodec:
    """Text of one model.

    Attributes:
        reference: a line of a data folder's `text` to what it asks for.
        to_text: token ids to text.
    """

    reference: Callable[[str], Reference]
    to_text: Callable[[Iterable[int]], str]

    def to_ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.reference(text).tokens


def text_codec(loaded: LoadedModel) -> TextCodec:
    """The codec of a model.

    Raises:
        ShrinkError: the model's config knows no tokenizer, what it needs is not installed or not
            here, or its token list lacks the language or the task that is asked for.
    """
    try:
        return _s2t_codec(loaded) if loaded.task.name == "s2t" else _codec(loaded)
    except ShrinkError:
        raise
    except Exception as error:  # of sentencepiece, transformers, whisper, ...
        raise ShrinkError(
            f"{loaded.config}: the tokenizer of token_type {loaded.args.token_type} "
            f"(bpemodel: {loaded.args.bpemodel}) cannot be made: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    text = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
    return text if len(text) < 300 else text[:300] + "..."


def _codec(loaded: LoadedModel) -> TextCodec:
    tokenizer, converter = _tokenizer(loaded), _converter(loaded)
    # A transducer starts from its blank. That of several has an index of its own.
    first = [getattr(loaded.model, "sos", 0)]
    if getattr(loaded.model, "joint_network", None) is not None:
        several = getattr(loaded.model, "transducer_multi_blank_durations", None)
        first = [loaded.model.blank_id if several else 0]
    elif loaded.args.bpemodel in WHISPER:
        first = list(converter.tokenizer.sot_sequence_including_notimestamps)
    # As in ESPnet's training, where Whisper's prompt goes before the text.
    own = first[1:]
    prompt, to_ids = Prompt(first), _to_ids(loaded)

    def reference(text: str) -> Reference:
        tokens = to_ids(text)
        return Reference(tokens[len(own) :] if tokens[: len(own)] == own else tokens, prompt)

    def to_text(token_ids: Iterable[int]) -> str:
        return str(tokenizer.tokens2text(converter.ids2tokens(list(token_ids))))

    return TextCodec(reference, to_text)


def _tokenizer(loaded: LoadedModel) -> Any:
    """As ESPnet's inference makes it."""
    from espnet2.text.build_tokenizer import build_tokenizer

    args = loaded.args
    kind = args.token_type
    if kind is None or (kind in ("bpe", "hugging_face") and args.bpemodel is None):
        lacks = "token_type" if kind is None else "bpemodel"
        raise ShrinkError(f"{loaded.config} names no {lacks}: no tokenizer known")
    settings: dict[str, Any] = {}
    if kind in ("bpe", "hugging_face"):
        settings = {"bpemodel": args.bpemodel}
    elif "whisper" in kind:
        conf = getattr(args, "preprocessor_conf", None) or {}
        settings = {
            "bpemodel": args.bpemodel,
            "whisper_language": conf.get("whisper_language"),
            "whisper_task": conf.get("whisper_task"),
            "non_linguistic_symbols": getattr(args, "non_linguistic_symbols", None),
        }
    return build_tokenizer(token_type=kind, **settings)


def _converter(loaded: LoadedModel) -> Any:
    """As ESPnet's inference makes it."""
    args = loaded.args
    if args.token_type == "hugging_face":
        from espnet2.text.hugging_face_token_id_converter import HuggingFaceTokenIDConverter

        return HuggingFaceTokenIDConverter(model_name_or_path=args.bpemodel)
    if args.bpemodel in WHISPER:
        from espnet2.text.whisper_token_id_converter import OpenAIWhisperTokenIDConverter

        conf = getattr(args, "preprocessor_conf", None) or {}
        return OpenAIWhisperTokenIDConverter(
            model_type=args.bpemodel,
            added_tokens_txt=getattr(args, "non_linguistic_symbols", None),
            language=conf.get("whisper_language") or "en",
            task=conf.get("whisper_task") or "transcribe",
            sot="speaker_change_symbol" in conf,
        )
    from espnet2.text.token_id_converter import TokenIDConverter

    return TokenIDConverter(token_list=args.token_list)


def _to_ids(loaded: LoadedModel) -> Callable[[str], list[int]]:
    # The preprocessor of training, as it also cleans the text.
    preprocess: Any = loaded.task.builder().build_preprocess_fn(loaded.args, False)

    def to_ids(text: str) -> list[int]:
        if preprocess is None:
            raise ShrinkError("the model's config says use_preprocessor: false: no tokenizer known")
        return [int(token) for token in preprocess("", {"text": text})["text"]]

    return to_ids


def _s2t_codec(loaded: LoadedModel) -> TextCodec:
    tokenizer, converter = _tokenizer(loaded), _converter(loaded)
    tags, untagged = Tags(converter.token2id, loaded), without_tags(vars(loaded.args))
    # Asked for no time stamps, ESPnet's inference allows none.
    never = tuple(range(tags.first_time, tags.last_time + 1))

    def reference(text: str) -> Reference:
        asked = tags.asked(text)
        pieces = tokenizer.text2tokens(untagged(text))
        tokens = [int(i) for i in converter.tokens2ids(pieces)]
        first = [loaded.model.sos, *(converter.token2id[tag] for tag in asked)]
        return Reference(tokens, Prompt(first, never, asked[1] == "<asr>"))

    def to_text(token_ids: Iterable[int]) -> str:
        tokens = converter.ids2tokens(list(token_ids))
        # Language, task and time stamps are no text.
        tokens = [t for t in tokens if not (t.startswith("<") and t.endswith(">"))]
        return str(tokenizer.tokens2text(tokens))

    return TextCodec(reference, to_text)
