"""Which utterances become the proxy set."""

import numpy as np
import pytest

from espnet_shrink.errors import ShrinkError
from espnet_shrink.proxy.select import METHODS, select

METHOD_NAMES = list(METHODS)


def made_up(count, seed=0):
    """Lengths and errors of `count` utterances; most have no error, as in life."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(50, 2000, count).tolist()
    return lengths, np.maximum(generator.poisson(1.0, count) - 1, 0).tolist()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_possible_size_gives_as_many_different_utterances(method):
    for count in (1, 2, 3, 7, 40):
        for size in range(1, count + 1):
            chosen = select(method, *made_up(count), size, seed=size)
            assert len(set(chosen)) == size and chosen == sorted(chosen)
            assert all(type(i) is int and 0 <= i < count for i in chosen)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("size", [-1, 0, 31])
def test_a_size_outside_the_data_is_refused(method, size):
    with pytest.raises(ShrinkError, match=f"{size} utterances .* from 30: give --size 1 to 30"):
        select(method, *made_up(30), size, seed=0)


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(ShrinkError, match="unknown proxy method best: choose of random, strat"):
        select("best", *made_up(30), 5, seed=0)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_negative_seed_is_refused(method):
    with pytest.raises(ShrinkError, match="seed -1 is negative"):
        select(method, *made_up(30), 5, seed=-1)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_seed_decides(method):
    data = made_up(200)
    assert select(method, *data, 20, seed=4) == select(method, *data, 20, seed=4)
    assert len({tuple(select(method, *data, 20, seed=s)) for s in range(10)}) == 10


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_utterance_can_be_chosen(method):
    data = made_up(20)
    seen = {i for seed in range(200) for i in select(method, *data, 5, seed=seed)}
    assert seen == set(range(20))


@pytest.mark.parametrize("count", [30, 97, 500])
@pytest.mark.parametrize("size", [6, 20, 29])
@pytest.mark.parametrize("seed", range(5))
def test_stratified_keeps_the_mix_of_lengths_and_of_errors(count, size, seed):
    lengths, errors = made_up(count, seed)
    chosen = select("stratified", lengths, errors, size, seed)
    third = np.argsort(np.argsort(lengths, kind="stable"), kind="stable") * 3 // count
    for j in range(3):
        share = size * np.mean(third == j)
        assert abs(np.sum(third[chosen] == j) - share) < 2
    # Within a third the order of errors is cut evenly: two ends of a cut may miss in each.
    wrong = np.asarray(errors) > 0
    assert abs(np.sum(wrong[chosen]) - size * np.mean(wrong)) < 6


def test_stratified_varies_less_in_length_and_errors_than_random():
    lengths, errors = made_up(300)
    spread = {}
    for method in METHOD_NAMES:
        chosen = [select(method, lengths, errors, 30, seed) for seed in range(60)]
        spread[method] = [
            np.std([np.mean(np.asarray(values)[c]) for c in chosen]) for values in (lengths, errors)
        ]
    for steady, free in zip(spread["stratified"], spread["random"], strict=True):
        assert steady < 0.7 * free
