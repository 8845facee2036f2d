"""The REINFORCE policy: budget, determinism, gradient, learning."""

import itertools

import numpy as np
import pytest
import torch
from toy import problem
from tqdm import tqdm

from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.reinforce import RULES, Reinforce, shaped
from espnet_shrink.search.searchers.uniform import uniform
from espnet_shrink.search.settings import SearchSettings

SHAPES = [(24, 36), (30, 20), (48, 16), (20, 20), (36, 28), (28, 40)]
SETTINGS = SearchSettings()


def learner(task, **settings):
    return Reinforce(task, SearchSettings(**settings), uniform(task))


def misleading():
    """A problem whose spectra say nothing: three sites of six matter, all look the same.

    Returns the problem and the errors of a plan, in percent.
    """
    task = problem(SHAPES, 4.0, decay=(0.05, 0.05))
    names = [site.name for site in task.sites]
    weights = dict(zip(names, [30.0, 0.3, 20.0, 0.2, 0.1, 10.0], strict=True))

    def errors(plan):
        kept = {s.name: s.params_at(plan.ranks[s.name]) / s.params for s in task.sites}
        return float(sum(w * np.exp(-4.0 * kept[name]) for name, w in weights.items()))

    return task, errors


def optimum(task, errors):
    """The fewest errors of all plans within the budget whose errors are a sum over sites."""
    base = {site.name: 1 for site in task.sites}
    # Best sum by size, site after site.
    best = np.full(task.site_budget + 1, np.inf)
    best[0] = errors(Plan(base)) * (1 - len(task.sites))
    for site in task.sites:
        after = np.full_like(best, np.inf)
        for rank in [*range(1, site.largest_useful_rank + 1), DENSE]:
            size, loss = site.params_at(rank), errors(Plan({**base, site.name: rank}))
            if size <= task.site_budget:
                after[size:] = np.minimum(after[size:], best[: len(best) - size] + loss)
        best = after
    return best.min()


def tell(search, rollouts, errors, task, tmp_path):
    with tqdm(disable=True) as bar:
        evaluate = Evaluator(
            task, lambda plans: [Score(errors(p), errors(p)) for p in plans], 10**6, tmp_path, bar
        )
        search.tell(rollouts, evaluate([r.plan for r in rollouts], "reinforce"))


def learn(task, errors, seed, count, tmp_path):
    """The fewest errors among `count` different plans, learning from each update of eight."""
    search, found = learner(task, seed=seed), {}
    while len(found) < count:
        rollouts = search.ask(8)
        found.update((r.plan.hash, errors(r.plan)) for r in rollouts)
        tell(search, rollouts, errors, task, tmp_path)
    return min(list(found.values())[:count])


def sample(task, errors, seed, count):
    """The same without learning."""
    search, found = learner(task, seed=seed), {}
    while len(found) < count:
        found.update((r.plan.hash, errors(r.plan)) for r in search.ask(8))
    return min(list(found.values())[:count])


@pytest.mark.parametrize("seed", range(12))
def test_every_rollout_meets_the_budget_however_tight(seed, tmp_path):
    generator = np.random.default_rng(seed)
    shapes = [tuple(int(n) for n in generator.integers(4, 60, 2)) for _ in range(6)]
    loose = problem(shapes, 1.0, seed, min_rank=2)
    least, most = loose.fixed_params + loose.least, loose.budget_params
    for share in (0.0, 0.02, 0.3, 1.0):
        budget = int(least + share * (most - least))
        task = Problem(loose.cost_model, loose.space, budget, loose.energies)
        search = learner(task, seed=seed)
        for first in (True, False):
            rollouts = search.ask(4)
            for plan in (rollout.plan for rollout in rollouts):
                plan.check(task.sites)
                assert task.params(plan) <= budget
            if not rollouts:  # at both ends there is but one plan
                assert not first and share in (0.0, 1.0)
                break
            tell(search, rollouts, lambda plan: float(generator.normal()), task, tmp_path)


def test_without_the_hard_reward_rollouts_may_exceed_the_budget():
    task = problem(SHAPES, 4.0)
    sizes = [task.params(r.plan) for r in learner(task, reward="soft").ask(40)]
    assert min(sizes) <= task.budget_params < max(sizes)


def test_the_global_random_state_neither_matters_nor_changes(tmp_path):
    task = problem(SHAPES, 3.0)

    def run():
        search, hashes = learner(task, seed=5), []
        for _ in range(4):
            rollouts = search.ask(3)
            tell(search, rollouts, lambda p: int(p.hash[:4], 16) / 65536, task, tmp_path)
            hashes += [r.plan.hash for r in rollouts]
        return hashes

    np.random.seed(1)
    first, state = run(), np.random.get_state()[1].tolist()
    np.random.seed(2)
    assert run() == first
    np.random.seed(1)
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize("count", [2, 3, 8, 20])
def test_advantages_follow_the_ranks_alone(count):
    rewards = np.random.default_rng(0).normal(size=count)
    found = shaped(list(rewards))
    assert found.sum() == pytest.approx(0.0, abs=1e-12)
    assert list(np.argsort(found[np.argsort(rewards)], kind="stable")) == list(range(count))
    assert found == pytest.approx(shaped(list(1e3 * rewards**3 - 5.0)))
    assert found.max() == found[np.argmax(rewards)] > 0 > found.min()


def test_equal_rewards_get_equal_advantages():
    found = shaped([1.0, 3.0, 1.0, 2.0, 3.0])
    assert found[1] == found[4] > found[3] > found[0] == found[2]
    assert shaped([7.0] * 6) == pytest.approx(0.0)


def test_an_update_is_the_natural_policy_gradient(tmp_path):
    """Against autograd: the inverse of the Fisher information times REINFORCE's gradient."""
    task, errors = misleading()
    search = learner(task, seed=3)
    mean = torch.tensor(search.mean, requires_grad=True)
    log_spread = torch.tensor(np.log(search.spread), requires_grad=True)
    rollouts = search.ask(8)
    advantages = torch.tensor(shaped([-errors(r.plan) for r in rollouts]))
    actions = torch.tensor([r.action for r in rollouts], dtype=torch.float64)
    policy = torch.distributions.Normal(mean, log_spread.exp())
    (advantages @ policy.log_prob(actions).sum(dim=1)).backward()
    fisher_of_mean, fisher_of_log_spread = search.spread**-2, 2.0  # of a normal distribution
    wanted = search.mean + mean.grad.numpy() / fisher_of_mean
    wanted_spread = search.spread * np.exp(
        search.spread_rate * log_spread.grad.numpy() / fisher_of_log_spread
    )
    tell(search, rollouts, errors, task, tmp_path)
    assert search.mean == pytest.approx(wanted)
    assert search.spread == pytest.approx(wanted_spread)


def test_the_untrained_policy_stays_near_its_prior():
    task = problem(SHAPES, 3.0)
    prior = uniform(task)
    rollouts = learner(task).ask(60)
    for site in task.sites:
        sizes = np.log([site.params_at(r.plan.ranks[site.name]) for r in rollouts])
        assert abs(sizes.mean() - np.log(site.params_at(prior.ranks[site.name]))) < 0.2
        assert len(set(sizes)) > 1


def test_it_finds_better_plans_than_rules_and_than_chance(tmp_path):
    task, errors = misleading()
    best = optimum(task, errors)
    by_rule = min(errors(rule(task)) for rule in RULES.values())
    learned = [learn(task, errors, seed, 120, tmp_path) for seed in range(3)]
    chance = [sample(task, errors, seed, 120) for seed in range(3)]
    assert min(learned) >= best - 1e-9
    assert max(learned) < by_rule - 0.8 * (by_rule - best)
    assert np.mean(learned) < np.mean(chance)


def test_the_defaults_do_not_settle_before_their_evaluations_are_spent(tmp_path):
    task, errors = misleading()
    search, found = learner(task), set()
    for _ in range(SETTINGS.evaluations // SETTINGS.rollouts):
        rollouts = search.ask(SETTINGS.rollouts)
        found |= {r.plan.hash for r in rollouts}
        tell(search, rollouts, errors, task, tmp_path)
    assert len(found) > 0.5 * SETTINGS.evaluations


def test_learning_raises_the_chance_of_the_better_plans(tmp_path):
    task, errors = misleading()
    search, means = learner(task), []
    for _ in range(20):
        rollouts = search.ask(8)
        means.append(np.mean([errors(r.plan) for r in rollouts]))
        tell(search, rollouts, errors, task, tmp_path)
    assert np.mean(means[-5:]) < np.mean(means[:5]) - 1.0


def test_optimum_by_hand():
    """The yardstick itself, against plain enumeration on a small problem."""
    task = problem([(9, 7), (7, 9), (8, 8)], 1.8)

    def errors(plan):
        return sum(len(str(rank)) / (1 + i) for i, rank in enumerate(plan.ranks.values()))

    names = [site.name for site in task.sites]
    plans = [
        Plan(dict(zip(names, ranks, strict=True)))
        for ranks in itertools.product(
            *([*range(1, site.largest_useful_rank + 1), DENSE] for site in task.sites)
        )
    ]
    wanted = min(errors(plan) for plan in plans if task.feasible(plan))
    assert optimum(task, errors) == pytest.approx(wanted)
