"""Token ids from text and back, as ESPnet makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.errors import ShrinkError

# What a speech-to-text (OWSM) model is asked for, as ESPnet's inference does by default.
S2T_PROMPT = ["<eng>", "<asr>", "<notimestamps>"]


@dataclass(frozen=True)
class Prompt:
    """What decoding starts from.

    Attributes:
        first: the first tokens.
        never: tokens that may not follow.
    """

    first: list[int]
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class TextCodec:
    """Text of one model.

    Attributes:
        to_ids: text to token ids.
        to_text: token ids to text.
    """

    prompt: Prompt
    to_ids: Callable[[str], list[int]]
    to_text: Callable[[Iterable[int]], str]


def text_codec(loaded: LoadedModel) -> TextCodec:
    """The codec of a model.

    Raises:
        ShrinkError: the model's config knows no tokenizer, or no prompt of its task.
    """
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.token_id_converter import TokenIDConverter

    args, s2t = loaded.args, loaded.task.name == "s2t"
    converter = TokenIDConverter(token_list=args.token_list)
    settings = {"bpemodel": args.bpemodel} if args.token_type == "bpe" else {}
    tokenizer = build_tokenizer(token_type=args.token_type, **settings)

    def to_text(token_ids: Iterable[int]) -> str:
        tokens = converter.ids2tokens(list(token_ids))
        if s2t:  # language, task and time stamps are no text
            tokens = [t for t in tokens if not (t.startswith("<") and t.endswith(">"))]
        return str(tokenizer.tokens2text(tokens))

    if s2t:
        missing = [token for token in S2T_PROMPT if token not in converter.token2id]
        if missing:
            raise ShrinkError(f"{loaded.config}: the token list has no {missing[0]}")
        prompt = [int(converter.token2id[token]) for token in S2T_PROMPT]
        # Asked for no time stamps, ESPnet's inference allows none.
        time = (loaded.args.preprocessor_conf[f"{end}_time_symbol"] for end in ("first", "last"))
        first_time, last_time = (int(converter.token2id[symbol]) for symbol in time)

        def s2t_ids(text: str) -> list[int]:
            return [int(i) for i in converter.tokens2ids(tokenizer.text2tokens(text))]

        return TextCodec(
            Prompt([loaded.model.sos, *prompt], tuple(range(first_time, last_time + 1))),
            s2t_ids,
            to_text,
        )
    # A transducer starts from its blank, which is always 0.
    first = getattr(loaded.model, "sos", 0)
    if getattr(loaded.model, "joint_network", None) is not None:
        first = 0
    return TextCodec(Prompt([first]), _to_ids(loaded), to_text)


def _to_ids(loaded: LoadedModel) -> Callable[[str], list[int]]:
    # The preprocessor of training, as it also cleans the text.
    preprocess: Any = loaded.task.builder().build_preprocess_fn(loaded.args, False)

    def to_ids(text: str) -> list[int]:
        if preprocess is None:
            raise ShrinkError("the model's config says use_preprocessor: false: no tokenizer known")
        return [int(token) for token in preprocess("", {"text": text})["text"]]

    return to_ids
