"""A whole search: trials, log, choice, and resuming where it was cut off."""

import csv
import io

import pytest
from toy import problem

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.score import Score
from espnet_shrink.search.loop import RULES, SearchResult, SearchSettings, Trial, run_search
from espnet_shrink.search.reward import REWARDS

SHAPES = [(23, 37), (53, 19), (17, 17), (41, 31)]
EVALUATIONS = 26


class Killed(Exception):
    pass


class Scorer:
    """Made-up errors that any two plans share only by chance; dies at the call after `lives`."""

    def __init__(self, lives=10**9):
        self.lives, self.scored = lives, []

    def __call__(self, plan):
        if len(self.scored) == self.lives:
            raise Killed
        self.scored.append(plan.hash)
        return Score(20 * int(plan.hash[:6], 16) / 16**6, 10 * int(plan.hash[6:12], 16) / 16**6)


def task(compression=3.0):
    return problem(SHAPES, compression, levels=6)


def settings(**changes):
    return SearchSettings(**{"evaluations": EVALUATIONS, "rollouts": 4, "levels": 6, **changes})


def search(out, scorer=None, compression=3.0, **changes):
    return run_search(task(compression), scorer or Scorer(), settings(**changes), out, quiet=True)


def log(out):
    return list(csv.DictReader(io.StringIO((out / "log.csv").read_text())))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted search."""
    out = tmp_path_factory.mktemp("whole")
    scorer = Scorer()
    return out, search(out, scorer), scorer


def test_exactly_the_wanted_evaluations_are_made_each_of_another_plan(whole):
    _, result, scorer = whole
    hashes = [trial.plan.hash for trial in result.trials]
    assert len(hashes) == len(set(hashes)) == EVALUATIONS
    assert scorer.scored == hashes


@pytest.mark.parametrize("evaluations", [1, 3, 4, 8, 9, 10])
def test_evaluations_that_are_no_multiple_of_the_rollouts_are_exact_too(tmp_path, evaluations):
    scorer = Scorer()
    search(tmp_path, scorer, evaluations=evaluations)
    assert len(scorer.scored) == max(evaluations, len(RULES))


def test_rules_are_scored_first(whole):
    _, result, _ = whole
    rules = {trial.source: trial.plan for trial in result.trials[: len(RULES)]}
    assert rules == {name: rule(task()) for name, rule in RULES.items()}
    assert {trial.source for trial in result.trials[len(RULES) :]} == {"reinforce"}


def test_the_log_tells_every_trial_and_the_best_so_far(whole):
    out, result, _ = whole
    rows = log(out)
    assert list(rows[0]) == [
        "trial", "source", "wer", "cer", "errors", "reward", "params", "within_budget",
        "best_errors", "plan",
    ]  # fmt: skip
    assert [int(row["trial"]) for row in rows] == list(range(1, EVALUATIONS + 1))
    for row, trial in zip(rows, result.trials, strict=True):
        assert row["plan"] == trial.plan.hash and row["source"] == trial.source
        assert float(row["errors"]) == pytest.approx(trial.score.errors, abs=1e-4)
        assert float(row["reward"]) == pytest.approx(1 - trial.score.errors / 100, abs=1e-6)
        assert int(row["params"]) == task().params(trial.plan) <= result.budget_params
    best = [float(row["best_errors"]) for row in rows]
    assert best == sorted(best, reverse=True)
    assert best[-1] == min(float(row["errors"]) for row in rows)
    assert best[-1] == pytest.approx(result.best.score.errors, abs=1e-4)
    assert any((out / "tensorboard").iterdir())


@pytest.mark.parametrize("lives", [0, 2, 3, 5, 7, 15, EVALUATIONS - 1])
def test_a_search_cut_off_anywhere_ends_the_same(whole, tmp_path, lives):
    out, result, _ = whole
    first, second = Scorer(lives), Scorer()
    with pytest.raises(Killed):
        search(tmp_path, first)
    resumed = search(tmp_path, second)
    assert (tmp_path / "log.csv").read_bytes() == (out / "log.csv").read_bytes()
    assert resumed.best == result.best
    # At most the rules and one update are scored again.
    assert len(first.scored) + len(second.scored) <= EVALUATIONS + len(RULES) + 4


def test_a_search_cut_off_twice_ends_the_same(whole, tmp_path):
    out, result, _ = whole
    for lives in (9, 8):
        with pytest.raises(Killed):
            search(tmp_path, Scorer(lives))
    assert search(tmp_path).trials == result.trials
    assert (tmp_path / "log.csv").read_bytes() == (out / "log.csv").read_bytes()


def test_a_finished_search_is_only_read(whole, tmp_path):
    search(tmp_path)
    scorer = Scorer()
    assert search(tmp_path, scorer).trials == whole[1].trials
    assert scorer.scored == []


def test_the_seed_decides(whole, tmp_path):
    again, other = search(tmp_path / "a"), search(tmp_path / "b", seed=1)
    assert again.trials == whole[1].trials
    assert other.trials[:3] == again.trials[:3] and other.trials != again.trials


@pytest.mark.parametrize("reward", [name for name in REWARDS if name != "hard"])
def test_plans_over_the_budget_are_tried_but_never_chosen(tmp_path, reward):
    class Tempting(Scorer):
        """The larger a plan, the fewer its errors."""

        def __call__(self, plan):
            super().__call__(plan)
            errors = 100.0 * (1 - task().params(plan) / task(1.0).budget_params)
            return Score(errors, errors)

    result = search(tmp_path, Tempting(), reward=reward)
    over = [trial for trial in result.trials if trial.params > result.budget_params]
    assert over and result.best.params <= result.budget_params
    assert result.best.score.errors > min(trial.score.errors for trial in over)
    for trial, row in zip(result.trials, log(tmp_path), strict=True):
        within = trial.params <= result.budget_params
        assert row["within_budget"] == str(int(within))
        excess = trial.params / result.budget_params - 1
        assert trial.reward == REWARDS[reward](trial.score.errors, excess)
    assert float(log(tmp_path)[-1]["best_errors"]) == pytest.approx(
        result.best.score.errors, abs=1e-4
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_as_searcher_scores_all_rules_and_chooses_its_own_plan(tmp_path, rule):
    scorer = Scorer()
    result = search(tmp_path, scorer, searcher=rule)
    assert len(scorer.scored) == len(RULES) == len(log(tmp_path))
    assert result.best.plan == RULES[rule](task()) and result.best.source == rule
    again = Scorer()
    assert search(tmp_path, again, searcher=rule).best == result.best
    assert again.scored == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_chosen_even_where_all_rules_agree(tmp_path, rule):
    result = search(tmp_path, compression=1.0, searcher=rule)  # all dense
    assert [trial.source for trial in result.trials] == [rule]
    assert result.best.source == rule


def test_a_small_search_space_ends_the_search_early(tmp_path):
    scorer = Scorer()
    small = problem([(9, 7), (7, 9)], 1.5, levels=1)
    result = run_search(small, scorer, settings(evaluations=60), tmp_path, quiet=True)
    assert len(RULES) <= len(result.trials) <= len(RULES) + 4


def test_of_equal_errors_the_smaller_plan_is_chosen_and_never_one_over_budget():
    trials = [
        Trial("reinforce", Plan({"a": rank}), Score(5.0, 5.0), params, 0.0)
        for rank, params in ((1, 90), (2, 80), (3, 101))
    ]
    better = Trial("reinforce", Plan({"a": 4}), Score(1.0, 1.0), 102, 0.0)
    assert SearchResult([*trials, better], 100).best == trials[1]
    with pytest.raises(ShrinkError, match="no plan within the budget"):
        SearchResult([better], 100).best  # noqa: B018


def test_errors_weigh_words_and_characters():
    assert Score(8.0, 4.0).errors == pytest.approx(5.0)
