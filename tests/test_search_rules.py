"""The rules that propose one plan, the search space, and the rewards."""

import itertools

import numpy as np
import pytest
from toy import problem

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.search.problem import Problem, fit_to_budget, log_ends
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.searchers.reinforce import RULES
from espnet_shrink.search.space import SearchSpace, full_space

# Sides with no common measure, so that sites do not all step at once.
SHAPES = [(23, 37), (53, 19), (17, 17), (41, 31), (29, 43), (10, 61)]
SITES = [Site(f"site{i}.weight", shape, "linear") for i, shape in enumerate(SHAPES)]


def one_more(site, rank):
    """The next larger size of a site, or None."""
    if rank == DENSE:
        return None
    return rank + 1 if rank < site.largest_useful_rank else DENSE


@pytest.mark.parametrize("compression", [1.01, 1.5, 2.5, 4.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_meets_the_budget_and_wastes_less_than_one_step(rule, seed, compression):
    task = problem(SHAPES, compression, seed)
    plan = RULES[rule](task)
    plan.check(task.sites)
    left = task.budget_params - task.params(plan)
    largest_step = max(sum(shape) for shape in SHAPES)
    assert 0 <= left < largest_step
    if rule == "energy_order":  # it fills what is left: nothing that fits is refused
        for site in task.sites:
            rank = plan.ranks[site.name]
            more = one_more(site, rank)
            assert more is None or site.params_at(more) - site.params_at(rank) > left


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_everything_when_it_may(rule):
    task = problem(SHAPES, 1.0)
    assert set(RULES[rule](task).ranks.values()) == {DENSE}


@pytest.mark.parametrize("rule", RULES)
def test_plans_grow_with_the_budget(rule):
    before = None
    for compression in np.geomspace(10.0, 1.0, 30):
        task = problem(SHAPES, float(compression), seed=3)
        sizes = {s.name: s.params_at(RULES[rule](task).ranks[s.name]) for s in task.sites}
        if before is not None:
            total = sum(sizes.values())
            assert total >= sum(before.values())
            if rule != "energy_order":  # which may give up a large step to fit small ones
                assert all(sizes[name] >= before[name] for name in sizes)
        before = sizes


def test_uniform_keeps_the_same_fraction_of_every_site():
    task = problem(SHAPES, 4.0)
    plan = RULES["uniform"](task)
    fractions = [
        ((plan.ranks[s.name]) / s.full_rank, (plan.ranks[s.name] + 1) / s.full_rank)
        for s in task.sites
    ]
    assert max(low for low, _ in fractions) < min(high for _, high in fractions)


def test_energy_keeps_the_same_share_of_every_spectrum():
    task = problem(SHAPES, 4.0, decay=(0.1, 0.4))
    plan = RULES["energy"](task)
    kept, more = [], []
    for site in task.sites:
        shares = np.cumsum(task.energies[site.name]) / task.energies[site.name].sum()
        rank = plan.ranks[site.name]
        kept.append(shares[rank - 1])
        more.append(shares[rank - 2] if rank > 1 else 0.0)
    # One threshold lies above what one component less would keep, and below what is kept.
    assert max(more) < min(kept) + 1e-9


def test_energy_uses_the_whole_budget_on_steep_float32_spectra():
    task = problem([(60, 60), (60, 70)], 2.1, decay=(0.4, 0.5), dtype=np.float32)
    left = task.budget_params - task.params(RULES["energy"](task))
    assert 0 <= left < 130


def test_energy_order_is_the_best_choice_of_all_where_steps_cost_the_same():
    sites = [(9, 7), (7, 9), (8, 8)]
    for seed in range(5):
        task = problem(sites, 1.9, seed, fixed=0)
        value = {}
        for site in task.sites:
            energies = task.energies[site.name] / task.energies[site.name].sum()
            value[site.name] = lambda rank, e=energies: e[:rank].sum()
        plan = energy_order(task)
        names = [site.name for site in task.sites]
        ranks = range(1, task.sites[0].largest_useful_rank + 1)
        best = max(
            sum(value[n](r) for n, r in zip(names, choice, strict=True))
            for choice in itertools.product(ranks, repeat=3)
            if task.feasible(Plan(dict(zip(names, choice, strict=True))))
        )
        assert sum(value[n](plan.ranks[n]) for n in names) == pytest.approx(best)


def test_energy_order_gives_a_spent_spectrum_nothing():
    task = problem([(20, 20), (20, 20)], 1.0)
    energies = dict(task.energies)
    energies["site0.weight"] = np.where(np.arange(20) < 3, 1.0, 0.0)
    plan = energy_order(Problem(task.cost_model, task.space, task.budget_params, energies))
    assert plan.ranks == {"site0.weight": 3, "site1.weight": DENSE}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("compression", [1.2, 1.7, 2.2])
def test_rules_keep_within_the_ends_of_edited_ranges(rule, compression):
    task = problem(SHAPES, compression)
    pinned = {"site0.weight": (DENSE, DENSE), "site1.weight": (2, 5), "site3.weight": (9, 9)}
    space = SearchSpace({**task.space.ranges, **pinned})
    edited = Problem(task.cost_model, space, task.budget_params, task.energies)
    plan = RULES[rule](edited)
    assert edited.feasible(plan)
    assert plan.ranks["site0.weight"] == DENSE
    assert 2 <= plan.ranks["site1.weight"] <= 5
    assert plan.ranks["site3.weight"] == 9


def test_an_impossible_budget_says_what_is_the_least():
    task = problem(SHAPES, 2.0, min_rank=3)
    least = 100 + sum(3 * sum(shape) for shape in SHAPES)
    Problem(task.cost_model, task.space, least, task.energies)
    with pytest.raises(ShrinkError, match=f"cannot be met: {least:,} is the least") as caught:
        Problem(task.cost_model, task.space, least - 1, task.energies)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", [1.0, 1.3, 2.5, 6.0])
@pytest.mark.parametrize("seed", range(4))
def test_any_wish_becomes_a_plan_that_spends_the_budget(compression, seed):
    task = problem(SHAPES, compression)
    wishes = np.random.default_rng(seed).normal(0, 2, len(SHAPES))
    plan = fit_to_budget(task, wishes)
    plan.check(task.sites)
    left = task.budget_params - task.params(plan)
    assert 0 <= left < max(sum(shape) for shape in SHAPES)
    assert fit_to_budget(task, wishes + 3.0) == plan  # only the proportions count


def test_a_wish_is_kept_in_proportion_up_to_rounding_and_the_ends_of_ranges():
    task = problem(SHAPES, 4.0)
    wishes = np.log([100.0, 200.0, 50.0, 400.0, 300.0, 90.0])
    plan = fit_to_budget(task, wishes)
    factors = [
        (s.params_at(plan.ranks[s.name]) + np.array([-1, 1]) * sum(s.shape)) / np.exp(wish)
        for s, wish in zip(task.sites, wishes, strict=True)
    ]
    assert max(low for low, _ in factors) < min(high for _, high in factors)
    extreme = fit_to_budget(task, [9.0, 0.0, 0.0, 0.0, 0.0, -9.0])
    assert extreme.ranks["site0.weight"] == DENSE and extreme.ranks["site5.weight"] == 1


def test_a_plan_at_the_budget_is_what_its_own_sizes_wish_for():
    task = problem(SHAPES, 3.0)
    plan = energy_order(task)
    sizes = [site.params_at(plan.ranks[site.name]) for site in task.sites]
    again = fit_to_budget(task, np.log(sizes))
    ranks = [(plan.ranks[s.name], again.ranks[s.name]) for s in task.sites]
    assert all(a == b or abs(a - b) <= 1 for a, b in ranks)


def test_ranges_are_kept_by_any_wish():
    task = problem(SHAPES, 1.5)
    ranges = {**task.space.ranges, "site1.weight": (2, 5), "site3.weight": (9, DENSE)}
    task = Problem(task.cost_model, SearchSpace(ranges), task.budget_params, task.energies)
    assert log_ends(task)[1] == pytest.approx(np.log([2 * 72, 5 * 72]))
    for seed in range(6):
        plan = fit_to_budget(task, np.random.default_rng(seed).normal(0, 3, len(SHAPES)))
        assert 2 <= plan.ranks["site1.weight"] <= 5
        assert plan.ranks["site3.weight"] == DENSE or plan.ranks["site3.weight"] >= 9
        assert task.feasible(plan)


@pytest.mark.parametrize("min_rank", [1, 4, 1000])
def test_the_full_space_goes_from_the_least_rank_to_dense(min_rank):
    space = full_space(SITES, min_rank)
    space.check(SITES)
    for site in SITES:
        assert space.ranges[site.name] == (min(min_rank, site.largest_useful_rank), DENSE)


def test_space_survives_its_file_and_tells_shape_and_kind(tmp_path):
    space = full_space(SITES, 2)
    space.save(tmp_path / "space.yaml", SITES)
    loaded = SearchSpace.load(tmp_path / "space.yaml")
    assert loaded.ranges == space.ranges
    entry = read_yaml(tmp_path / "space.yaml")["sites"]["site1.weight"]
    assert entry["shape"] == [53, 19] and entry["kind"] == "linear"


BAD_RANGES = {
    "empty": [],
    "one": [3],
    "three": [3, 4, DENSE],
    "not ascending": [5, 3],
    "dense first": [DENSE, 3],
    "zero": [0, 3],
    "past break-even": [3, 15],
    "a word": [3, "thick"],
    "a float": [3.0, DENSE],
    "true": [True, DENSE],
    "nested": [[3], DENSE],
    "null": [None, DENSE],
}


@pytest.mark.parametrize("ranks", BAD_RANGES.values(), ids=BAD_RANGES.keys())
def test_a_bad_range_is_one_line_that_names_the_site(ranks):
    # 23 * 37 / (23 + 37) = 14.2
    ranges = {**full_space(SITES, 2).ranges, "site0.weight": tuple(ranks)}
    with pytest.raises(ShrinkError, match="range of site0.weight") as caught:
        SearchSpace(ranges).check(SITES)
    assert "\n" not in str(caught.value)


def test_a_space_of_other_sites_is_refused():
    ranges = dict(full_space(SITES, 2).ranges)
    with pytest.raises(ShrinkError, match="extra is no site of this model"):
        SearchSpace({**ranges, "extra": (1, 2)}).check(SITES)
    with pytest.raises(ShrinkError, match="no site of this model"):
        SearchSpace({**ranges, "extra": (1, 2), 3: (1, 2)}).check(SITES)
    del ranges["site2.weight"]
    with pytest.raises(ShrinkError, match="site2.weight is not in the search space"):
        SearchSpace(ranges).check(SITES)


@pytest.mark.parametrize(
    "text",
    ["", "sites: 3\n", "ranks: {}\n", "sites: {a: 3}\n", "sites: {a: {ranks: 3}}\n", "sites: [a"],
)
def test_a_malformed_space_file_is_one_line_that_names_it(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ShrinkError, match="space.yaml") as caught:
        SearchSpace.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("errors", "excess", "hard", "soft", "constant", "proportional"),
    [
        (0.0, 0.0, 1.0, 1.0, 1.0, 1.0),
        (10.0, -0.5, 0.9, 0.9, 0.9, 0.9),
        (10.0, 0.0, 0.9, 0.9, 0.9, 0.9),
        (10.0, 0.1, 0.9, 0.7, -1.0, -0.1),
        (100.0, 2.0, 0.0, -4.0, -1.0, -2.0),
        (150.0, -0.1, -0.5, -0.5, -0.5, -0.5),
    ],
)
def test_rewards(errors, excess, hard, soft, constant, proportional):
    wanted = {"hard": hard, "soft": soft, "constant": constant, "proportional": proportional}
    found = {name: reward(errors, excess) for name, reward in REWARDS.items()}
    assert found == pytest.approx(wanted)
