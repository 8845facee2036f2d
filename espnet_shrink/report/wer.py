"""Word and character error rates with bootstrap intervals.

Errors are counted per utterance, so that intervals can be drawn over utterances and two systems
can be compared on the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jiwer
import numpy as np
from numpy.typing import NDArray

from espnet_shrink.compat.references import AS_THEY_ARE, ScoredTexts
from espnet_shrink.data.kaldi import evenly_spaced
from espnet_shrink.data.metric import Metric, without_spaces
from espnet_shrink.errors import ShrinkError


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one kind (words or characters), one entry per utterance.

    Attributes:
        errors: substitutions + deletions + insertions, shape (utterances,).
        lengths: words or characters of the reference, shape (utterances,).
    """

    errors: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def rate(self) -> float:
        """Errors over reference length, in percent; insertions can take it past 100."""
        return float(100 * self.errors.sum() / self.lengths.sum())


@dataclass(frozen=True)
class Scores:
    """How one system did on one set.

    Attributes:
        utterances: ids, sorted; entry i of the counts belongs to utterance i.
        words: counts behind the WER.
        characters: counts behind the CER; a space between words is a character.
    """

    utterances: tuple[str, ...]
    words: ErrorCounts
    characters: ErrorCounts

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate in percent."""
        return self.characters.rate


def score(
    ref: Mapping[str, str],
    hyp: Mapping[str, str],
    texts: ScoredTexts = AS_THEY_ARE,
    metric: Metric = "wer",
) -> Scores:
    """Score hypotheses against references; both map utterance ids to texts.

    All of the hypothesis of an utterance with an empty reference is inserted.

    Args:
        texts: what is done to both before; what a reference loses by that counts no error.
        metric: with "cer", spaces between characters of unspaced scripts do not count.

    Raises:
        ShrinkError: no words in any reference, or other ids in `hyp` than in `ref`.
    """
    if not any(map(evenly_spaced, ref.values())):
        raise ShrinkError("there are no reference texts to score against")
    _refuse(ref.keys() - hyp.keys(), "have no hypothesis: decode the whole set")
    _refuse(hyp.keys() - ref.keys(), "have no reference: score the set that was decoded")

    utterances = tuple(sorted(ref))
    words, characters = [], []
    for utterance in utterances:
        pair = texts.reference(ref[utterance]), texts.hypothesis(hyp[utterance])
        reference, hypothesis = map(evenly_spaced, pair)
        if metric == "cer":
            reference, hypothesis = without_spaces(reference), without_spaces(hypothesis)
        words.append(_errors_and_length(jiwer.process_words(reference, hypothesis)))
        characters.append(_errors_and_length(jiwer.process_characters(reference, hypothesis)))
    scores = Scores(utterances, _counts(words), _counts(characters))
    if not scores.words.lengths.any():
        raise ShrinkError("nothing is left of any reference text once the config has cleaned it")
    return scores


def bootstrap_interval(
    counts: ErrorCounts, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of an error rate over utterances, in percent.

    Utterances are drawn with replacement and the rate of each draw is taken over the whole draw
    (Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004).
    """
    drawn = _draws(len(counts.errors), seed, resamples)
    # A draw of utterances that are all empty once cleaned has no length.
    lengths = np.maximum(drawn @ counts.lengths, 1)
    return _middle(100 * (drawn @ counts.errors) / lengths, level)


def paired_interval(
    a: Scores, b: Scores, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of WER(a) - WER(b), in percentage points, on the same utterances.

    Each draw of utterances is scored with both systems, which removes what the two share
    (Bisani & Ney 2004, section 3). An interval that leaves out 0 is a difference.

    Raises:
        ShrinkError: the two were not scored on the same utterances and references.
    """
    if a.utterances != b.utterances or not np.array_equal(a.words.lengths, b.words.lengths):
        raise ShrinkError(
            "two systems can be compared only on the same utterances and references: "
            f"one has {len(a.utterances)}, the other {len(b.utterances)}, or their texts differ"
        )
    drawn = _draws(len(a.utterances), seed, resamples)
    difference = drawn @ (a.words.errors - b.words.errors)
    return _middle(100 * difference / (drawn @ a.words.lengths), level)


def _refuse(utterances: set[str], problem: str) -> None:
    if utterances:
        raise ShrinkError(f"{len(utterances)} utterances (first: {min(utterances)}) {problem}")


def _errors_and_length(output: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int]:
    wrong = output.substitutions + output.deletions
    return wrong + output.insertions, wrong + output.hits


def _counts(pairs: list[tuple[int, int]]) -> ErrorCounts:
    errors, lengths = np.asarray(pairs, dtype=np.int64).T
    return ErrorCounts(errors, lengths)


def _draws(utterances: int, seed: int, resamples: int) -> NDArray[np.int64]:
    """How often each utterance is in each draw, shape (resamples, utterances)."""
    chances = np.full(utterances, 1 / utterances)
    return np.random.default_rng(seed).multinomial(utterances, chances, size=resamples)


def _middle(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
