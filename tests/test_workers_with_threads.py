"""A plan's score is its own on any Dask worker: with threads, in this process, shared, failing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import COMMANDS
from toy import random_plan

from espnet_shrink.data.features import extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.decompositions import Decompositions
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.plan import Plan
from espnet_shrink.search import workers as workers_module
from espnet_shrink.search.workers import scores

distributed = pytest.importorskip("distributed")


@pytest.fixture(params=["processes", "one process"])
def cluster(request):
    """The address of two workers with four threads each."""
    with distributed.LocalCluster(
        n_workers=1 if request.param == "processes" else 2,
        threads_per_worker=4,
        processes=request.param == "processes",
        protocol="tcp://",
        dashboard_address=None,
        silence_logs=40,
    ) as found:
        yield found.scheduler_address


def test_a_search_by_threads_of_a_worker_is_the_same_search(cluster, finished, shrink):
    command = ["search", "--exp", "exp/asr", *COMMANDS["search"], "--out"]
    done = shrink(*command, "theirs", "--workers", cluster)
    assert done.status == 0, done.err
    for name in ("log.csv", "finalists.csv", "plan.yaml"):
        assert Path("theirs", name).read_bytes() == Path("small/search", name).read_bytes()


@pytest.mark.slow
def test_two_searches_that_share_workers_score_their_own_models(cluster, baseline, small):
    from espnet_shrink.methods.lowrank.build import fold

    fold(small.model)
    asked, expected = [], []
    for loaded in (baseline, small):
        proxy = extract(loaded, "dump/raw/dev")
        analysis = analyse(loaded, proxy, "whitened")
        plans = [random_plan(analysis.survey.sites, seed) for seed in range(24)]
        asked.append((loaded, proxy, analysis.decompositions, plans))
        expected.append(list(Scorer(loaded, proxy, analysis.decompositions).score_all(plans)))
    assert expected[0] != expected[1]
    first, second = ((*material, cluster) for *material, _ in asked)
    with scores(*first) as score_first, scores(*second) as score_second:
        one, two = score_first(asked[0][-1]), score_second(asked[1][-1])
        found = list(zip(one, two, strict=True))  # both at work at once
    assert found == list(zip(*expected, strict=True))


def test_threads_of_one_process_may_share_a_scorer(baseline):
    proxy = extract(baseline, "dump/raw/dev")
    analysis = analyse(baseline, proxy, "whitened")
    plans = [random_plan(analysis.survey.sites, seed) for seed in range(24)]
    scorer = Scorer(baseline, proxy, analysis.decompositions)
    expected = list(scorer.score_all(plans))
    assert len({score.errors for score in expected}) > 3
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(scorer.score, plans)) == expected


def test_what_fails_on_a_worker_is_one_line(cluster, baseline, monkeypatch):
    proxy = extract(baseline, "dump/raw/dev")
    with scores(baseline, proxy, Decompositions(), cluster) as score_all:
        with pytest.raises(ShrinkError, match=r"--workers tcp.*a worker cannot score: KeyError"):
            list(score_all([Plan({"decoder.output.weight": 2, "ctc.ctc_lo.weight": 1})]))
        # The failure left nothing behind.
        assert list(score_all([Plan({})])) == [Scorer(baseline, proxy).score()]


def test_a_scheduler_without_workers_is_refused(finished, shrink, monkeypatch):
    monkeypatch.setattr(workers_module, "TIMEOUT_S", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=40) as empty:
        command = ["search", "--exp", "exp/asr", *COMMANDS["search"], "--out", "refused"]
        failed = shrink(*command, "--workers", empty.scheduler_address)
    assert failed.status == 2
    assert "has no worker" in failed.err
