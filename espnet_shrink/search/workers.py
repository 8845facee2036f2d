"""Scores from worker processes: of this machine, or of a cluster that Dask knows.

Dask keeps the workers alive: one that dies is started anew, and what it was to score is scored
again. A score is the same wherever it is computed, so the number of workers changes no plan.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.lowrank.decompose import Decomposition
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.features import FeatureSet
from espnet_shrink.proxy.score import Score, Scorer
from espnet_shrink.search.evaluate import ScoreAll

NAME = "espnet_shrink_scorer"
DEATHS = 3  # of workers at one plan, before it is the plan that is to blame
TIMEOUT_S = 20


def check_workers(workers: str | None) -> None:
    """Refuse what `scores` cannot use, before any work is done.

    Raises:
        ShrinkError: neither a number nor an address, or no Dask.
    """
    if workers is None:
        return
    if "://" not in workers and (not workers.isdecimal() or int(workers) == 0):
        raise ShrinkError(
            f"--workers {workers}: give a number of processes, at least 1, or the address of a "
            "Dask scheduler such as tcp://host:8786"
        )
    if importlib.util.find_spec("distributed") is None:
        raise ShrinkError("--workers needs Dask: pip install 'espnet_shrink[dask]'")


@contextlib.contextmanager
def scores(
    loaded: LoadedModel,
    data: FeatureSet,
    decompositions: Mapping[str, Decomposition],
    workers: str | None,
) -> Iterator[ScoreAll]:
    """What scores plans of a model on `data`.

    Args:
        workers: None: this process, with all its cores. A number: so many processes with a core
            each. An address: the workers of the Dask scheduler there.

    Raises:
        ShrinkError: bad `workers`, no Dask, or no scheduler.
    """
    if workers is None:
        yield Scorer(loaded, data, decompositions).score_all
        return
    with _client(workers) as client:
        from distributed import WorkerPlugin

        kind = type("Plugin", (_Plugin, WorkerPlugin), {})
        client.register_plugin(kind((loaded, data, dict(decompositions))), name=NAME)

        def score_all(plans: Sequence[Plan]) -> Iterator[Score]:
            for future in client.map(_score, plans, pure=False):
                yield future.result()

        yield score_all


class _Plugin:
    """Gives every worker, also one that is started anew, a scorer of its own."""

    name = NAME

    def __init__(self, materials: tuple[LoadedModel, FeatureSet, dict[str, Decomposition]]) -> None:
        self.materials = materials

    def setup(self, worker: Any) -> None:
        torch.set_num_threads(1)
        worker.espnet_shrink_scorer = Scorer(*self.materials)


def _score(plan: Plan) -> Score:
    from distributed import get_worker

    torch.set_num_threads(1)  # a setting of the thread
    worker: Any = get_worker()
    score: Score = worker.espnet_shrink_scorer.score(plan)
    return score


@contextlib.contextmanager
def _client(workers: str) -> Iterator[Any]:
    check_workers(workers)
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}))
        where: Any = workers
        if workers.isdecimal():
            where = stack.enter_context(
                LocalCluster(n_workers=int(workers), threads_per_worker=1, processes=True,
                             dashboard_address=None, silence_logs=40)
            )  # fmt: skip
        try:
            client = Client(where, timeout=TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ShrinkError(f"no Dask scheduler answers at {workers}") from error
        yield stack.enter_context(client)
