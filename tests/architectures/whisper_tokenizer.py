"""The tokenizers that Whisper had when ESPnet took them up, over those that it has now.

Until March 2023 `get_tokenizer(...).tokenizer` was one of transformers, and ESPnet
calls what is here; ids and texts are the same.
"""

import functools
import re

import whisper.tokenizer


class OfTransformers:
    """What ESPnet calls of transformers' GPT2 tokenizer. A token is its bytes, as latin-1."""

    def __init__(self, encoding):
        self._encoding = encoding
        self.additional_special_tokens = sorted(encoding.special_tokens_set - {"<|endoftext|>"})
        self._special = {t: encoding.encode_single_token(t) for t in encoding.special_tokens_set}

    def __deepcopy__(self, memo):
        return OfTransformers(self._encoding)

    def add_special_tokens(self, tokens):
        (names,) = tokens.values()
        assert all(name in self._special for name in names)  # time stamps have their ids already

    def tokenize(self, line, add_special_tokens):
        assert not add_special_tokens
        found = []
        for part in re.split(r"(<\|.*?\|>)", line):
            if part in self._special:
                found.append(part)
            else:
                found += map(self._token, self._encoding.encode_ordinary(part))
        return found

    def convert_tokens_to_ids(self, tokens):
        return [
            self._special[t] if t in self._special
            else self._encoding.encode_single_token(t.encode("latin-1"))
            for t in tokens
        ]  # fmt: skip

    def convert_ids_to_tokens(self, ids, skip_special_tokens):
        assert skip_special_tokens
        special = set(self._special.values())
        return [self._token(i) for i in ids if i not in special]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens).encode("latin-1").decode("utf-8", errors="replace")

    def _token(self, index):
        return self._encoding.decode_single_token_bytes(index).decode("latin-1")


def provide() -> None:
    """Give whisper's tokenizers, where they lack it, the attribute that ESPnet wants."""
    get_tokenizer = whisper.tokenizer.get_tokenizer
    if hasattr(get_tokenizer(multilingual=False), "tokenizer"):
        return

    @functools.wraps(get_tokenizer)
    def with_tokenizer(*arguments, **settings):
        found = get_tokenizer(*arguments, **settings)
        found.tokenizer = OfTransformers(found.encoding)
        return found

    whisper.tokenizer.get_tokenizer = with_tokenizer
