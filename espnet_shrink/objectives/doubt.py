"""Warn of a base model that hardly recognises anything, with a likely reason."""

from __future__ import annotations

import re
import unicodedata
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.data.metric import Metric
from espnet_shrink.objectives.score import errors

DOUBTFUL = 80.0  # percent
MENDED = 0.7  # of the errors at most: what is left if a change of the references explains them
FOREIGN = 0.5  # share of the references' letters that no hypothesis has, in another language
EMPTY = 0.5  # share of empty hypotheses

_told: weakref.WeakSet[Any] = weakref.WeakSet()  # models; each is warned of once


def doubt(loaded: LoadedModel, data: FeatureSet, by_decoder: Mapping[str, Sequence[str]]) -> None:
    """Write one line if the error rate of a base model on dev is above 80 %.

    Args:
        data: the dev set.
        by_decoder: its hypotheses, of `Scorer.hypotheses()`.
    """
    rates = {
        name: errors(data.references, texts, data.metric).rate for name, texts in by_decoder.items()
    }
    mean = sum(rates.values()) / len(rates)
    if mean <= DOUBTFUL or loaded.model in _told:
        return
    _told.add(loaded.model)
    best = min(rates, key=lambda name: rates[name])
    worst = max(rates, key=lambda name: rates[name])
    if rates[best] <= DOUBTFUL:
        reason = (
            f"its {worst} decoder has {rates[worst]:.1f} %, its {best} decoder {rates[best]:.1f} "
            f"%: was {worst} trained?"
        )
    else:
        reason = likely_reason(loaded, data.references, by_decoder[best], data.metric)
    tqdm.write(
        f"warning: the uncompressed model has a {data.metric.upper()} of {mean:.1f} % on dev; "
        f"{reason}"
    )


def likely_reason(
    loaded: LoadedModel, references: Sequence[str], hypotheses: Sequence[str], metric: Metric
) -> str:
    """Why hypotheses and references may have so little in common, and what to do."""
    before = errors(references, hypotheses, metric).rate
    after = {}
    for remedy, change in CHANGES.items():
        changed = [change(text) for text in references]
        if changed != list(references) and any(map(str.split, changed)):
            after[remedy] = errors(changed, hypotheses, metric).rate
    if after:
        # Of changes that do as much, the first: it changes less.
        best = min(after, key=lambda remedy: after[remedy])
        if after[best] <= MENDED * before:
            return (
                f"with its references {best} it has {after[best]:.1f} %: write the data's texts as "
                "the model's training data was written"
            )
    empty = sum(not text.strip() for text in hypotheses) / len(hypotheses)
    if empty > EMPTY:
        return (
            f"{empty:.0%} of its hypotheses are empty: likely an untrained checkpoint, or audio of "
            f"another level or kind{_rate(loaded)}"
        )
    wanted, known = _letters(references), _letters(hypotheses)
    lacking = {letter for letter in wanted if letter not in known}
    if wanted and sum(wanted[letter] for letter in lacking) > FOREIGN * sum(wanted.values()):
        return (
            f"its hypotheses lack most letters of the references ({''.join(sorted(lacking)[:8])}): "
            "likely another language or script than the model's"
        )
    return (
        f"likely another language or another kind of audio than its training data{_rate(loaded)}, "
        "or an untrained or wrong checkpoint"
    )


def _rate(loaded: LoadedModel) -> str:
    conf = getattr(loaded.args, "frontend_conf", None) or {}
    if "fs" in conf or loaded.model.frontend is None:
        return ""
    return " (its config names no sampling rate, 16 kHz was taken)"


def _letters(texts: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for letter in "".join(texts).casefold():
        if letter.isalpha():
            counts[letter] = counts.get(letter, 0) + 1
    return counts


def _unpunctuated(text: str) -> str:
    """Without punctuation, but with apostrophes and hyphens within words."""
    words = re.sub(r"(?<!\w)['’-]|['’-](?!\w)", " ", text)
    marks = [" " if unicodedata.category(c)[0] in "PS" and c not in "'’-" else c for c in words]
    return " ".join("".join(marks).split())


CHANGES: dict[str, Callable[[str], str]] = {
    "in lower case": str.lower,
    "in upper case": str.upper,
    "without punctuation": _unpunctuated,
    "in lower case and without punctuation": lambda text: _unpunctuated(text.lower()),
    "in upper case and without punctuation": lambda text: _unpunctuated(text.upper()),
}
