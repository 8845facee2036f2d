"""The Gymnasium environment is the same search: its plans, its budget, its scores."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from toy import problem, squared_distance

from espnet_shrink.search.env import RankSearchEnv
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.trial import Trial

SHAPES = [(23, 37), (53, 19), (17, 17), (41, 31)]


def make(compression=3.0):
    task = problem(SHAPES, compression)
    return task, RankSearchEnv(
        task, lambda plan: Trial("test", plan, squared_distance(task, plan), task.params(plan))
    )


def episode(env, actions):
    env.reset(seed=0)
    *rest, (_, reward, done, cut, info) = [env.step(np.array([a], np.float32)) for a in actions]
    assert all(r == 0.0 and not (d or c) for _, r, d, c, _ in rest)
    assert done and not cut
    return reward, info["trial"]


@pytest.mark.filterwarnings("ignore:.*Box.*")
def test_gymnasium_finds_nothing_wrong():
    check_env(make()[1], skip_render_check=True)


def test_actions_of_zero_are_the_energy_order_and_any_plan_meets_the_budget():
    task, env = make()
    _, trial = episode(env, [0.0] * 4)
    prior = energy_order(task)
    sizes = [[s.params_at(p.ranks[s.name]) for s in task.sites] for p in (trial.plan, prior)]
    for size, expected, site in zip(*sizes, task.sites, strict=True):
        assert abs(size - expected) <= sum(site.shape)  # what rounding leaves goes elsewhere
    generator = np.random.default_rng(0)
    for _ in range(30):
        reward, trial = episode(env, generator.uniform(-3, 3, 4))
        assert task.params(trial.plan) == trial.params <= task.budget_params
        assert reward == pytest.approx(1 - trial.score.errors / 100)


def test_an_action_moves_its_own_site():
    task, env = make()
    for i, site in enumerate(task.sites):
        less, more = ([(sign if k == i else 0.0) for k in range(4)] for sign in (-1.0, 1.0))
        sizes = [site.params_at(episode(env, a)[1].plan.ranks[site.name]) for a in (less, more)]
        assert sizes[0] < sizes[1]


def test_observations_tell_the_sites_apart():
    task, env = make()
    seen = [env.reset()[0]] + [env.step(np.array([0.5], np.float32))[0] for _ in range(4)]
    assert [list(o[:4]) for o in seen[:4]] == np.eye(4).tolist()
    assert [o[-1] for o in seen[:4]] == [0.0, 0.5, 0.5, 0.5]
    assert not seen[4].any()


def test_a_searcher_of_ones_own_may_use_it(tmp_path):
    """A cross-entropy method in ten lines, through the same evaluator, log and count."""

    def search(task, evaluate, settings):
        env = RankSearchEnv(task, lambda plan: evaluate([plan], "mine")[0])
        generator, mean = np.random.default_rng(settings.seed), np.zeros(4)
        while True:
            actions = mean + 0.3 * generator.standard_normal((8, 4))
            rewards = [episode(env, row)[0] for row in actions]
            mean = actions[np.argsort(rewards)[-3:]].mean(axis=0)

    task = problem(SHAPES, 3.0)
    settings = SearchSettings(evaluations=30, seed=1)
    result = run_search(
        task,
        lambda plans: [squared_distance(task, p) for p in plans],
        settings,
        tmp_path,
        True,
        search,
    )
    assert len(result.trials) == 30 and {t.source for t in result.trials} == {"mine"}
    assert result.best.score.errors < squared_distance(task, energy_order(task)).errors
    assert (tmp_path / "log.csv").read_text().count("mine") == 30
