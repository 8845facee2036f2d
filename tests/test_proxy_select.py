"""Which utterances become the proxy set."""

import numpy as np
import pytest

from espnet_shrink.data.select import (
    METHODS,
    Candidates,
    expected_order,
    kept_order,
    select,
)
from espnet_shrink.errors import ShrinkError

METHOD_NAMES = list(METHODS)


def made_up(count, seed=0, plans=18):
    """`count` utterances; most have no error, as in life.

    Plans differ in how many errors they add, most of them in a few hard utterances, and by chance.
    """
    generator = np.random.default_rng(seed)
    lengths = generator.integers(50, 2000, count)
    errors = np.maximum(generator.poisson(1.0, count) - 1, 0)
    groups = np.arange(plans) // 6
    badness = generator.permutation(plans) / plans
    hardness = generator.gamma(0.2, 5.0, count)
    plan_errors = errors + generator.poisson((groups + badness)[:, None] * hardness)
    return Candidates(lengths, errors, plan_errors.astype(float), groups)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_possible_size_gives_as_many_different_utterances(method):
    for count in (1, 2, 3, 7, 40):
        for size in range(1, count + 1):
            chosen = select(method, made_up(count), size, seed=size)
            assert len(set(chosen)) == size and chosen == sorted(chosen)
            assert all(type(i) is int and 0 <= i < count for i in chosen)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("size", [-1, 0, 31])
def test_a_size_outside_the_data_is_refused(method, size):
    with pytest.raises(ShrinkError, match=f"{size} utterances .* from 30: give --size 1 to 30"):
        select(method, made_up(30), size, seed=0)


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(ShrinkError, match="unknown proxy method best: choose of random, strat"):
        select("best", made_up(30), 5, seed=0)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_negative_seed_is_refused(method):
    with pytest.raises(ShrinkError, match="seed -1 is negative"):
        select(method, made_up(30), 5, seed=-1)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_seed_decides(method):
    data = made_up(200)
    assert select(method, data, 20, seed=4) == select(method, data, 20, seed=4)
    assert len({tuple(select(method, data, 20, seed=s)) for s in range(10)}) > 1


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_every_utterance_can_be_chosen(method):
    data = made_up(20)
    seen = {i for seed in range(200) for i in select(method, data, 5, seed=seed)}
    assert seen == set(range(20))


@pytest.mark.parametrize("count", [30, 97, 500])
@pytest.mark.parametrize("size", [6, 20, 29])
@pytest.mark.parametrize("seed", range(5))
def test_stratified_keeps_the_mix_of_lengths_and_of_errors(count, size, seed):
    data = made_up(count, seed)
    chosen = select("stratified", data, size, seed)
    third = np.argsort(np.argsort(data.lengths, kind="stable"), kind="stable") * 3 // count
    for j in range(3):
        share = size * np.mean(third == j)
        assert abs(np.sum(third[chosen] == j) - share) < 2
    # Within a third the order of errors is cut evenly: two ends of a cut may miss in each.
    wrong = data.errors > 0
    assert abs(np.sum(wrong[chosen]) - size * np.mean(wrong)) < 6


def test_stratified_varies_less_in_length_and_errors_than_random():
    data = made_up(300)
    spread = {}
    for method in ("stratified", "random"):
        chosen = [select(method, data, 30, seed) for seed in range(60)]
        spread[method] = [
            np.std([np.mean(values[c]) for c in chosen]) for values in (data.lengths, data.errors)
        ]
    for steady, free in zip(spread["stratified"], spread["random"], strict=True):
        assert steady < 0.7 * free


def test_the_whole_set_keeps_the_order():
    data = made_up(50)
    assert kept_order(data, range(50)) == pytest.approx(1.0)
    backwards = Candidates(data.lengths, data.errors, -data.plan_errors, data.groups)
    mixed = Candidates(
        data.lengths, data.errors,
        np.hstack([data.plan_errors, 3 * backwards.plan_errors]), data.groups,
    )  # fmt: skip
    assert kept_order(mixed, range(50)) == pytest.approx(-1.0)


def test_order_is_judged_among_plans_of_one_compression():
    """Across compressions any utterance tells plans apart."""
    groups = np.array([0, 0, 1, 1])
    errors = np.array([[1.0, 2.0], [2.0, 0.5], [11.0, 12.0], [12.0, 10.5]])
    data = Candidates(np.ones(2), np.zeros(2), errors, groups)
    assert kept_order(data, [0]) == pytest.approx(-1.0)
    assert kept_order(data, [1]) == pytest.approx(1.0)


def test_an_ordered_choice_keeps_the_order_best_and_is_not_judged_by_what_chose_it():
    found = {method: [] for method in METHOD_NAMES}
    for seed in range(12):
        data = made_up(200, seed, plans=36)
        for method in METHOD_NAMES:
            chosen = select(method, data, 20, seed)
            found[method].append((kept_order(data, chosen), expected_order(method, data, 20, seed)))
    kept, expected = ({m: np.mean(v, axis=0)[i] for m, v in found.items()} for i in (0, 1))
    assert kept["ordered"] > 0.1 + max(kept["random"], kept["stratified"])
    assert expected["ordered"] < kept["ordered"] - 0.1
    assert expected["random"] == pytest.approx(kept["random"], abs=0.05)


def test_no_swap_would_bring_an_ordered_choice_closer():
    data = made_up(40)
    chosen = select("ordered", data, 8, seed=0)
    centred = data.plan_errors - np.array(
        [data.plan_errors[data.groups == g].mean(axis=0) for g in data.groups]
    )

    def distance(indices):
        return np.sum((centred[:, indices].mean(axis=1) - centred.mean(axis=1)) ** 2)

    here = distance(chosen)
    for out in chosen:
        for into in set(range(40)) - set(chosen):
            assert distance([into if i == out else i for i in chosen]) >= here - 1e-9
