"""Token ids from text and back, as ESPnet makes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from espnet_shrink.compat.tasks import Task
from espnet_shrink.errors import ShrinkError


def text_converter(args: argparse.Namespace) -> Callable[[Iterable[int]], str]:
    """A function from token ids to text, as ESPnet's inference makes it."""
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.token_id_converter import TokenIDConverter

    converter = TokenIDConverter(token_list=args.token_list)
    if args.token_type == "bpe":
        tokenizer = build_tokenizer(token_type="bpe", bpemodel=args.bpemodel)
    else:
        tokenizer = build_tokenizer(token_type=args.token_type)

    def to_text(token_ids: Iterable[int]) -> str:
        return str(tokenizer.tokens2text(converter.ids2tokens(list(token_ids))))

    return to_text


def token_ids(task: Task, args: argparse.Namespace) -> Callable[[str], list[int]]:
    """A function from text to token ids, as ESPnet's training makes them."""
    preprocess = task.builder().build_preprocess_fn(args, False)

    def to_ids(text: str) -> list[int]:
        if preprocess is None:
            raise ShrinkError("the model's config says use_preprocessor: false: no tokenizer known")
        return [int(token) for token in preprocess("", {"text": text})["text"]]

    return to_ids
