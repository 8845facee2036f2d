"""The last choice, on more data than the search saw."""

import csv

import pytest
from toy import problem

from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import Plan
from espnet_shrink.search.finalists import choose, finalists
from espnet_shrink.search.trial import SearchResult, Trial

TASK = problem([(20, 30), (40, 10)], 2.0)


def trial(rank, errors, params):
    plan = Plan({site.name: rank for site in TASK.sites})
    return Trial("made up", plan, Score(errors, errors), params)


def result():
    trials = [trial(2, 9.0, 80), trial(3, 5.0, 90), trial(4, 5.0, 70), trial(5, 1.0, 101),
              trial(6, 7.0, 100), trial(7, 30.0, 60)]  # fmt: skip
    return SearchResult(100, trials)


def test_finalists_are_the_best_within_the_budget_the_smaller_of_equals_first():
    assert [t.params for t in finalists(result(), 4)] == [70, 90, 100, 80]


def test_the_best_on_dev_of_the_finalists_is_chosen_and_all_are_written(tmp_path):
    on_dev = {2: 1.0, 3: 6.0, 4: 8.0, 6: 6.0, 7: 0.0}
    scored = []

    def scorer(plan):
        rank = plan.ranks[TASK.sites[0].name]
        scored.append(rank)
        return Score(on_dev[rank], on_dev[rank])

    best, score = choose(result(), 3, scorer, tmp_path, quiet=True)
    assert scored == [4, 3, 6]
    # Rank 6 ties with 3 on dev, but was worse on the proxy set; 2 and 7 were no finalists.
    assert best.params == 90 and score == Score(6.0, 6.0)
    with (tmp_path / "finalists.csv").open() as lines:
        rows = [(int(r["params"]), float(r["errors_proxy"]), float(r["errors"]))
                for r in csv.DictReader(lines)]  # fmt: skip
    assert rows == [(70, 5.0, 8.0), (90, 5.0, 6.0), (100, 7.0, 6.0)]


def test_without_a_plan_within_the_budget_there_is_nothing_to_choose(tmp_path):
    with pytest.raises(ShrinkError, match="no plan within the budget"):
        choose(SearchResult(100, [trial(2, 1.0, 101)]), 3, lambda plan: None, tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())
