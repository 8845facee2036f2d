"""A whole search: trials, log, choice, and resuming where it was cut off."""

import csv
import io

import pytest
from toy import problem

from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import Plan
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.searchers.reinforce import RULES
from espnet_shrink.search.settings import SEARCHERS, SearchSettings
from espnet_shrink.search.trial import SearchResult, Trial

SHAPES = [(23, 37), (53, 19), (17, 17), (41, 31)]
EVALUATIONS = 26
ONE_PLAN = {"uniform": 1, "energy": 1, "energy_order": 1, "zero_sum": 1}


class Killed(Exception):
    pass


class Scorer:
    """Made-up errors that any two plans share only by chance; dies at the call after `lives`."""

    def __init__(self, lives=10**9):
        self.lives, self.scored = lives, []

    def __call__(self, plans):
        for plan in plans:
            if len(self.scored) == self.lives:
                raise Killed
            self.scored.append(plan.hash)
            yield Score(20 * int(plan.hash[:6], 16) / 16**6, 10 * int(plan.hash[6:12], 16) / 16**6)


def task(compression=3.0):
    return problem(SHAPES, compression)


def settings(**changes):
    return SearchSettings(**{"evaluations": EVALUATIONS, "rollouts": 4, **changes})


def search(out, scorer=None, compression=3.0, **changes):
    return run_search(task(compression), scorer or Scorer(), settings(**changes), out, quiet=True)


def log(out):
    return list(csv.DictReader(io.StringIO((out / "log.csv").read_text())))


@pytest.fixture(scope="module", params=SEARCHERS)
def whole(tmp_path_factory, request):
    """An uninterrupted search, and its searcher's name."""
    out = tmp_path_factory.mktemp(request.param)
    scorer = Scorer()
    return out, search(out, scorer, searcher=request.param), scorer, request.param


def test_a_searcher_makes_its_evaluations_each_of_another_plan(whole):
    _, result, scorer, name = whole
    hashes = [trial.plan.hash for trial in result.trials]
    assert len(hashes) == len(set(hashes))
    assert scorer.scored == hashes
    if name in ("knapsack", "sensitivity"):  # one plan, after as many scores as all sites share
        assert EVALUATIONS - len(SHAPES) < len(hashes) <= EVALUATIONS
    else:
        assert len(hashes) == ONE_PLAN.get(name, EVALUATIONS)


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name not in ONE_PLAN])
def test_plans_are_proposed_together_so_that_no_worker_is_idle(tmp_path, name):
    scorer, together = Scorer(), []

    def score_all(plans):
        together.append(len(plans))
        return scorer(plans)

    search(tmp_path, score_all, searcher=name, evaluations=60)
    # A start of one plan or of the rules, the rest of a budget, and the plan that a scan ends in.
    assert sum(count for count in together if count >= 2) >= 0.85 * sum(together)


def test_its_choice_is_within_the_budget_and_spends_it(whole):
    _, result, _, name = whole
    assert result.best.params <= result.budget_params
    largest_step = max(sum(shape) for shape in SHAPES)
    if name != "nsga2":  # which looks for smaller plans too
        assert result.best.params > result.budget_params - largest_step
    assert result.best.score.errors == min(
        t.score.errors for t in result.trials if t.params <= result.budget_params
    )
    for trial in result.trials:
        trial.plan.check(task().sites)


def test_the_log_tells_every_trial_and_the_best_so_far(whole):
    out, result, _, _ = whole
    rows = log(out)
    assert list(rows[0]) == [
        "trial", "source", "wer", "cer", "errors", "params", "within_budget", "best_errors", "plan",
        "metric",
    ]  # fmt: skip
    assert [int(row["trial"]) for row in rows] == list(range(1, len(result.trials) + 1))
    for row, trial in zip(rows, result.trials, strict=True):
        assert row["plan"] == trial.plan.hash and row["source"] == trial.source
        assert float(row["errors"]) == trial.score.errors
        assert int(row["params"]) == task().params(trial.plan)
        assert row["within_budget"] == str(int(trial.params <= result.budget_params))
    best = [float(row["best_errors"]) for row in rows]
    assert best == sorted(best, reverse=True)
    assert best[-1] == result.best.score.errors
    assert any((out / "tensorboard").iterdir())


def test_a_search_cut_off_anywhere_ends_the_same(whole, tmp_path):
    out, result, _, name = whole
    for lives in (0, 2, 7, 15, EVALUATIONS - 2):
        if lives >= len(result.trials):
            continue
        first, second, folder = Scorer(lives), Scorer(), tmp_path / str(lives)
        with pytest.raises(Killed):
            search(folder, first, searcher=name)
        assert search(folder, second, searcher=name).trials == result.trials
        assert (folder / "log.csv").read_bytes() == (out / "log.csv").read_bytes()
        # At most one batch is scored again.
        assert len(first.scored) + len(second.scored) < len(result.trials) + 8


def test_a_finished_search_is_only_read(whole):
    out, result, _, name = whole
    before, scorer = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}, Scorer()
    assert search(out, scorer, searcher=name).trials == result.trials
    assert scorer.scored == []
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_search_cut_off_twice_ends_the_same(tmp_path):
    for lives in (9, 8):
        with pytest.raises(Killed):
            search(tmp_path / "killed", Scorer(lives))
    assert search(tmp_path / "killed").trials == search(tmp_path / "whole").trials


def test_a_damaged_log_is_one_line_that_names_it(tmp_path):
    for text in ("plan,wer\nx,y\n", "plan,wer,cer\nab,1,many\n", "nothing\nmore\n"):
        (tmp_path / "log.csv").write_text(text)
        with pytest.raises(ShrinkError, match=r"log\.csv is damaged"):
            search(tmp_path)


@pytest.mark.parametrize("name", ["reinforce", "random", "tpe", "cma_es", "nsga2"])
def test_the_seed_decides(tmp_path, name):
    found = [search(tmp_path / str(n), searcher=name, seed=seed).trials
             for n, seed in enumerate((0, 0, 1))]  # fmt: skip
    assert found[0] == found[1] != found[2]


def test_reinforce_scores_the_rules_first(tmp_path):
    result = search(tmp_path)
    rules = {trial.source: trial.plan for trial in result.trials[: len(RULES)]}
    assert rules == {name: rule(task()) for name, rule in RULES.items()}
    assert {trial.source for trial in result.trials[len(RULES) :]} == {"reinforce"}


@pytest.mark.parametrize("evaluations", [8, 9, 10, 11])
def test_evaluations_that_are_no_multiple_of_the_rollouts_are_exact_too(tmp_path, evaluations):
    scorer = Scorer()
    search(tmp_path, scorer, evaluations=evaluations)
    assert len(scorer.scored) == evaluations


@pytest.mark.parametrize("name", ["knapsack", "sensitivity"])
def test_a_scan_that_cannot_be_afforded_says_so(tmp_path, name):
    with pytest.raises(ShrinkError, match=f"too few for a search of {name}"):
        search(tmp_path, searcher=name, evaluations=1)


@pytest.mark.parametrize("reward", [name for name in REWARDS if name != "hard"])
def test_plans_over_the_budget_are_tried_but_never_chosen(tmp_path, reward):
    class Tempting(Scorer):
        """The larger a plan, the fewer its errors."""

        def __call__(self, plans):
            for plan in plans:
                errors = 100.0 * (1 - task().params(plan) / task(1.0).budget_params)
                yield Score(errors, errors)

    result = search(tmp_path, Tempting(), reward=reward)
    over = [trial for trial in result.trials if trial.params > result.budget_params]
    assert over and result.best.params <= result.budget_params
    assert result.best.score.errors > min(trial.score.errors for trial in over)


def test_a_long_batch_is_written_down_on_the_way(tmp_path):
    """A scan asks for all its plans at once."""
    with pytest.raises(Killed):
        search(tmp_path, Scorer(24), searcher="knapsack", evaluations=60)
    assert len(log(tmp_path)) == 20  # every ten
    scorer = Scorer()
    assert len(search(tmp_path, scorer, searcher="knapsack", evaluations=60).trials) > 24
    assert len(scorer.scored) == len(log(tmp_path)) - 20


def test_a_searcher_that_has_settled_ends_the_search(tmp_path):
    """There are fewer plans than evaluations."""
    small = problem([(9, 7), (7, 9)], 1.5)
    scorer = Scorer()
    result = run_search(small, scorer, settings(evaluations=20), tmp_path, quiet=True)
    assert 1 <= len(result.trials) < 20


def test_of_equal_errors_the_smaller_plan_is_chosen_and_never_one_over_budget():
    trials = [
        Trial("reinforce", Plan({"a": rank}), Score(5.0, 5.0), params)
        for rank, params in ((1, 90), (2, 80), (3, 101))
    ]
    better = Trial("reinforce", Plan({"a": 4}), Score(1.0, 1.0), 102)
    assert SearchResult(100, [*trials, better]).best == trials[1]
    with pytest.raises(ShrinkError, match="no plan within the budget"):
        SearchResult(100, [better]).best  # noqa: B018


def test_errors_weigh_words_and_characters():
    assert Score(8.0, 4.0).errors == pytest.approx(5.0)
