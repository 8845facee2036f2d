"""The tokenizer of Whisper that ESPnet's classes call, over the one that the package has now.

Until March 2023 `whisper.tokenizer.get_tokenizer(...).tokenizer` was transformers' of GPT-2. Ids
and texts are the same; a token is written as there, every byte as a printable character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from espnet_shrink.errors import ShrinkError

WHISPER = ("whisper_en", "whisper_multilingual")  # ESPnet's token types, and bpemodels


def _printable() -> dict[int, str]:
    """Byte -> character: itself if it can be printed, else one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }


CHARACTERS = _printable()
BYTES = {character: byte for byte, character in CHARACTERS.items()}


class Gpt2Tokenizer:
    """What ESPnet calls of transformers' tokenizer.

    Args:
        encoding: of tiktoken.
    """

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self._special = {t: encoding.encode_single_token(t) for t in encoding.special_tokens_set}

    def __deepcopy__(self, memo: Any) -> Gpt2Tokenizer:
        return Gpt2Tokenizer(self._encoding)

    @property
    def additional_special_tokens(self) -> list[str]:
        """All of them but the end of text."""
        return sorted(set(self._special) - {"<|endoftext|>"})

    @property
    def vocab_size(self) -> int:
        """Tokens that are no special ones."""
        return int(self._encoding.n_vocab) - len(self._special)

    def get_added_vocab(self) -> dict[str, int]:
        """Special tokens with their ids."""
        return dict(self._special)

    def add_special_tokens(self, tokens: Mapping[str, Sequence[str]]) -> None:
        """Time stamps have their ids already.

        Raises:
            ShrinkError: others are to be added.
        """
        self.add_tokens([name for names in tokens.values() for name in names])

    def add_tokens(self, names: Sequence[str]) -> None:
        """As `add_special_tokens`."""
        new = [name for name in names if name not in self._special]
        if new:
            raise ShrinkError(
                f"this version of the package whisper cannot add tokens ({', '.join(new[:5])}): "
                "pip install openai-whisper==20230308 transformers"
            )

    def tokenize(self, line: str, add_special_tokens: bool = False) -> list[str]:
        """A text to tokens; special ones in it are taken as such."""
        found = []
        for part in re.split(r"(<\|.*?\|>)", line):
            if part in self._special:
                found.append(part)
            else:
                found += map(self._token, self._encoding.encode_ordinary(part))
        return found

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """The ids of tokens, or that of one."""
        if isinstance(tokens, str):
            return self._id(tokens)
        return [self._id(token) for token in tokens]

    def convert_ids_to_tokens(
        self, ids: Iterable[int], skip_special_tokens: bool = False
    ) -> list[str]:
        """Ids to tokens."""
        special = {index: name for name, index in self._special.items()}
        return [
            special.get(i) or self._token(i) for i in map(int, ids)
            if not (skip_special_tokens and i in special)
        ]  # fmt: skip

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Tokens to a text."""
        data = bytearray()
        for token in tokens:
            if token in self._special:
                data += token.encode()
            else:
                data += bytes(BYTES[character] for character in token)
        return data.decode("utf-8", errors="replace")

    def vocabulary(self) -> list[str]:
        """All tokens by id."""
        return self.convert_ids_to_tokens(range(self._encoding.n_vocab))

    def _token(self, index: int) -> str:
        data = self._encoding.decode_single_token_bytes(index)
        return "".join(CHARACTERS[byte] for byte in data)

    def _id(self, token: str) -> int:
        if token in self._special:
            return self._special[token]
        data = bytes(BYTES[character] for character in token)
        return int(self._encoding.encode_single_token(data))
