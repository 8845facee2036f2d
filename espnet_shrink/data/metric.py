"""Which error rate decides: that of words, or, in languages written without spaces, of characters.

Decided once per run, from the dev references; "WER" limits and columns are of CER then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Metric = Literal["wer", "cer"]
"""The error rate that decides; `metric.upper()` is what it is called."""

# Chinese and Japanese; a space between two of their characters never ends a word.
_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3105-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# Thai, Lao, Tibetan, Burmese, Khmer, Tai Le, New Tai Lue, Tai Tham, Tai Viet: spaces part phrases,
# or words, where someone has cut the text into words.
_PHRASES = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u1950-\u19df"
    "\u1a20-\u1aaf\uaa80-\uaadf"
)
_UNITS = re.compile(rf"([{_CJK}])|([{_PHRASES}]+)|([^\s{_CJK}{_PHRASES}]+)")
_SPACE_BETWEEN = re.compile(rf"(?<=[{_CJK}{_PHRASES}])\s+(?=[{_CJK}{_PHRASES}])")
WORD = range(3, 8)  # mean characters of a Thai word cut out by spaces; phrases have more, letters 1


def metric_of(references: Iterable[str]) -> Metric:
    """The error rate that decides on texts like `references`.

    CER if most units of the text, where a character of an unspaced script and a word of any other
    count as one each, belong to a script that is written without spaces, and no spaces part its
    words. Digits, commands or letters alone in an utterance are words as anywhere.
    """
    unspaced = other = 0
    runs: list[int] = []  # of scripts whose spaces part phrases, in utterances that have spaces
    phrase_characters = 0
    for text in references:
        own = [
            (len(run), character, word)
            for character, run, word in (m.groups(default="") for m in _UNITS.finditer(text))
        ]
        for length, character, word in own:
            # Punctuation is no word.
            other += any(map(str.isalnum, word))
            unspaced += len(character) + length
            phrase_characters += length
        lengths = [length for length, _, _ in own if length]
        if len(lengths) > 1:
            runs += lengths
    if unspaced <= other:
        return "wer"
    cut_into_words = 2 * phrase_characters > unspaced and 2 * sum(runs) > phrase_characters
    if cut_into_words and WORD.start <= sum(runs) / len(runs) < WORD.stop:
        return "wer"
    return "cer"


def without_spaces(text: str) -> str:
    """A text as its characters are compared: no spaces between those of unspaced scripts."""
    return _SPACE_BETWEEN.sub("", " ".join(text.split()))
