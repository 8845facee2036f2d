"""Error rates against hand counts, and intervals that behave as intervals should."""

import numpy as np
import pytest

from espnet_shrink.errors import ShrinkError
from espnet_shrink.report.wer import (
    ErrorCounts,
    bootstrap_interval,
    paired_interval,
    score,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        # (errors, reference length), counted by hand
        ("a b c", "a b c", (0, 3), (0, 5)),
        ("a b c", "", (3, 3), (5, 5)),
        ("a b c", "a x c", (1, 3), (1, 5)),  # a substitution
        ("a b c", "a c", (1, 3), (2, 5)),  # a deletion takes a letter and a space
        ("a b c", "a b b c", (1, 3), (2, 5)),  # an insertion
        ("a", "b c d", (3, 1), (5, 1)),  # more errors than words
        ("turn left", "turnleft", (2, 2), (1, 9)),  # a word merged: one space
        ("kitten", "sitting", (1, 1), (3, 6)),
        ("a  b", " a b ", (0, 2), (0, 3)),  # spacing is not an error
        ("naïve 二", "naive 二", (1, 2), (1, 7)),
        ("5\u00a0000 m", "5 000 m", (2, 2), (1, 7)),  # a no-break space is a part of its word
        ("a\t b", "a b", (0, 2), (0, 3)),
    ],
)
def test_errors_are_those_counted_by_hand(reference, hypothesis, words, characters):
    scores = score({"u": reference}, {"u": hypothesis})
    assert (scores.words.errors[0], scores.words.lengths[0]) == words
    assert (scores.characters.errors[0], scores.characters.lengths[0]) == characters
    assert scores.wer == pytest.approx(100 * words[0] / words[1])
    assert scores.cer == pytest.approx(100 * characters[0] / characters[1])


def test_an_utterance_without_words_counts_what_was_heard_there():
    scores = score({"a": "one", "b": ""}, {"a": "one", "b": "two three"})
    assert scores.words.errors.tolist() == [0, 2] and scores.words.lengths.tolist() == [1, 0]
    assert scores.wer == pytest.approx(200)


def test_rates_are_over_all_words_and_counts_follow_the_ids():
    scores = score({"b": "one two three", "a": "four"}, {"a": "five", "b": "one two three"})
    assert scores.utterances == ("a", "b")
    assert scores.words.errors.tolist() == [1, 0]
    assert scores.words.lengths.tolist() == [1, 3]
    assert scores.wer == pytest.approx(25.0)  # the mean of the utterances' rates would be 50


@pytest.mark.parametrize(
    ("ref", "hyp", "says"),
    [
        ({"a": "x", "b": "x", "c": "x"}, {"a": "x"}, "2 utterances (first: b)"),
        ({"a": "x"}, {"a": "x", "z": "x"}, "1 utterances (first: z)"),
        ({"a": "", "b": " "}, {"a": "x", "b": "x"}, "no reference"),
        ({}, {}, "no reference"),
    ],
)
def test_texts_that_do_not_fit_together_are_refused(ref, hyp, says):
    with pytest.raises(ShrinkError) as error:
        score(ref, hyp)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def sample(utterances, rate, seed):
    """Counts of a system with the true error rate `rate`."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 12, size=utterances)
    return ErrorCounts(rng.binomial(lengths, rate), lengths)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    intervals = [bootstrap_interval(sample(200, 0.1, seed), resamples=400) for seed in range(100)]
    covered = sum(low <= 10 <= high for low, high in intervals)
    assert 87 <= covered <= 100


def test_interval_holds_the_rate_and_shrinks_with_the_root_of_the_utterances():
    widths = []
    for utterances in (100, 1600):
        counts = sample(utterances, 0.1, seed=1)
        low, high = bootstrap_interval(counts)
        assert low < counts.rate < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_interval_widens_with_its_level_and_is_fixed_by_its_seed():
    counts = sample(100, 0.1, seed=2)
    low, high = bootstrap_interval(counts, level=0.95)
    wider = bootstrap_interval(counts, level=0.99)
    assert wider[0] < low and high < wider[1]
    assert bootstrap_interval(counts, seed=3) == bootstrap_interval(counts, seed=3)
    assert bootstrap_interval(counts, seed=3) != bootstrap_interval(counts, seed=4)


def test_interval_of_a_faultless_system_is_zero():
    counts = ErrorCounts(np.zeros(5, dtype=np.int64), np.full(5, 3))
    assert bootstrap_interval(counts) == (0.0, 0.0)


def test_paired_interval_sees_a_difference_that_single_intervals_hide():
    ref = {f"u{i:03}": "a b c d" for i in range(100)}
    # Half of the utterances are hard for both; in ten, the second system makes one error more.
    first = {u: "a b c d" if i % 2 else "x y c d" for i, u in enumerate(ref)}
    second = {u: "a b c x" if i % 10 == 1 else first[u] for i, u in enumerate(ref)}
    a, b = score(ref, second), score(ref, first)
    assert a.wer - b.wer == pytest.approx(2.5)
    low, high = paired_interval(a, b)
    assert 0 < low < 2.5 < high
    assert bootstrap_interval(a.words)[0] < bootstrap_interval(b.words)[1]
    negative = paired_interval(b, a)
    assert negative == pytest.approx((-high, -low), abs=1e-9)


def test_systems_on_other_utterances_are_not_compared():
    a, b = score({"a": "x"}, {"a": "x"}), score({"b": "x"}, {"b": "x"})
    with pytest.raises(ShrinkError, match="same utterances"):
        paired_interval(a, b)
