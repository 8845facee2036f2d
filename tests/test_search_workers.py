"""Plans scored by worker processes: the same search, whatever their number and their fate."""

import os
import signal
from pathlib import Path

import pytest
from conftest import COMMANDS
from toy import random_plan

from espnet_shrink.data.features import extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.search import workers as workers_module
from espnet_shrink.search.workers import scores

pytest.importorskip("distributed")


def test_workers_score_alike_and_one_that_dies_is_replaced(baseline):
    proxy = extract(baseline, "dump/raw/dev")
    analysis = analyse(baseline, proxy, "whitened")
    plans = [random_plan(analysis.survey.sites, seed) for seed in range(12)]
    here = Scorer(baseline, proxy, analysis.decompositions)
    expected = list(here.score_all(plans))
    assert len({score.errors for score in expected}) > 3
    with scores(baseline, proxy, analysis.decompositions, "2") as score_all:
        assert list(score_all(plans)) == expected
        found = score_all(plans[::-1])
        first = next(found)
        os.kill(next(iter(processes().values())), signal.SIGKILL)
        assert [first, *found] == expected[::-1]
        assert list(score_all(plans[:4])) == expected[:4]  # on the new one too


def processes():
    """Name -> process of every Dask worker of this test."""
    from distributed import get_client

    return get_client().run(os.getpid)


def test_a_search_by_workers_is_the_same_search(finished, shrink):
    command = ["search", "--exp", "exp/asr", *COMMANDS["search"], "--out"]
    assert shrink(*command, "theirs", "--workers", 2).status == 0
    for name in ("log.csv", "finalists.csv", "plan.yaml"):
        assert Path("theirs", name).read_bytes() == Path("small/search", name).read_bytes()


@pytest.mark.parametrize("workers", ["0", "-1", "many", "host:1", ""])
def test_bad_workers_are_refused(baseline, workers):
    with (
        pytest.raises(ShrinkError, match="give a number of processes, at least 1, or the addr"),
        scores(baseline, extract(baseline, "dump/raw/dev"), {}, workers),
    ):
        pass


@pytest.mark.parametrize("verb", ["search", "rounds"])
def test_bad_workers_leave_no_folder(finished, shrink, verb):
    command = [verb, "--exp", "exp/asr", *COMMANDS[verb], "--out", "refused"]
    failed = shrink(*command, "--workers", "many")
    assert failed.status == 2
    assert "--workers many: give a number of processes" in failed.err
    assert not Path("refused").exists()


def test_a_scheduler_that_is_not_there_is_refused(baseline, monkeypatch):
    monkeypatch.setattr(workers_module, "TIMEOUT_S", 1)
    with (
        pytest.raises(ShrinkError, match="no Dask scheduler answers at tcp://127.0.0.1:1"),
        scores(baseline, extract(baseline, "dump/raw/dev"), {}, "tcp://127.0.0.1:1"),
    ):
        pass
