"""Texts as ESPnet scores them: references cleaned, non-linguistic symbols in neither side."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.tags import without_tags
from espnet_shrink.compat.whisper.tokenizer import WHISPER
from espnet_shrink.errors import ShrinkError, first_line, working_on

Clean = Callable[[str], str]


@dataclass(frozen=True)
class ScoredTexts:
    """What is done to texts before errors are counted, as ESPnet's scoring stage does it.

    Attributes:
        reference: cleans a reference with the config's own cleaner, as training did; of a
            speech-to-text (OWSM) model, without tags.
        hypothesis: leaves non-linguistic symbols out, as `reference` does; of Whisper, which writes
            capitals and punctuation, cleaned like the reference (asr.sh --hyp_cleaner).
    """

    reference: Clean
    hypothesis: Clean


def _unchanged(text: str) -> str:
    return text


AS_THEY_ARE = ScoredTexts(_unchanged, _unchanged)


def scored_texts(config: Mapping[str, Any], path: str | Path) -> ScoredTexts:
    """What is done to texts of a model.

    Args:
        config: its training config.
        path: of the config, for messages.

    Raises:
        ShrinkError: a cleaner that is unknown or lacks a package, or a missing list of symbols.
    """
    clean, untagged = _cleaner(config.get("cleaner"), path), without_tags(config)
    leave_out = _without(_symbols(config.get("non_linguistic_symbols"), path))
    of_hypotheses = clean if config.get("bpemodel") in WHISPER else _unchanged
    return ScoredTexts(
        lambda text: leave_out(clean(untagged(text))),
        lambda text: leave_out(of_hypotheses(untagged(text))),
    )


def _cleaner(names: str | Sequence[str] | None, path: str | Path) -> Clean:
    names = [names] if isinstance(names, str) else list(names or [])
    names = [name for name in names if name != "none"]  # as asr.sh spells it
    if not names:
        return _unchanged
    with working_on(f"{path}: cleaner {', '.join(names)}"):
        from espnet2.text.cleaner import TextCleaner  # takes seconds

        cleaner = TextCleaner(names)
        cleaner("a")  # what it lacks shows at its first use

    def clean(text: str) -> str:
        try:
            return " ".join(str(cleaner(text)).split())
        except Exception as error:
            raise ShrinkError(
                f"{path}: cleaner {', '.join(names)} fails on {text!r}: {first_line(error)}"
            ) from error

    return clean


def _symbols(given: str | Path | Sequence[str] | None, path: str | Path) -> list[str]:
    """ESPnet takes a list, or a file with one on each line."""
    if given is None or given == "none":
        return []
    if not isinstance(given, (str, Path)):
        return [str(symbol) for symbol in given]
    try:
        lines = Path(given).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ShrinkError(
            f"{path}: the list of non-linguistic symbols {given} cannot be read "
            f"({first_line(error)}): paths in an ESPnet config are relative to the recipe folder"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _without(symbols: Sequence[str]) -> Clean:
    if not symbols:
        return _unchanged
    # Marked ones such as <noise> wherever they stand, others only as words of their own.
    forms = [
        rf"(?<!\S){re.escape(s)}(?!\S)" if s[0].isalnum() else re.escape(s)
        for s in sorted(symbols, key=len, reverse=True)
    ]
    pattern = re.compile("|".join(forms))
    return lambda text: " ".join(pattern.sub("", text).split())
