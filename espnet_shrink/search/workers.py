"""Scores from worker processes: of this machine, or of a cluster that Dask knows.

Dask keeps the workers alive: one that dies is started anew, and what it was to score is scored
again. A score is the same wherever it is computed, so the number of workers changes no plan: every
search has scorers of its own, and every task has one for itself while it runs, whatever the number
of a worker's threads and of the searches that share it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.base import Compressor
from espnet_shrink.objectives.score import Score, Scorer
from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import ScoreAll

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
    compressor: Compressor,
    workers: str | None,
) -> Iterator[ScoreAll]:
    """What scores plans of a model on `data`.

    Args:
        workers: None: this process, with all its cores. A number: so many processes with a core
            each. An address: the workers of the Dask scheduler there.

    Raises:
        ShrinkError: bad `workers`, no Dask, no scheduler, no worker, or one that cannot score.
    """
    if workers is None:
        yield Scorer(loaded, data, compressor).score_all
        return
    with _client(workers) as client:
        name = f"espnet_shrink {uuid.uuid4()}"
        materials = (loaded, data, compressor)
        with _registered(client, name, materials, workers):

            def score_all(plans: Sequence[Plan]) -> Iterator[Score]:
                for future in client.map(_score, plans, search=name, pure=False):
                    with _in_one_line(workers):
                        score = future.result()
                    yield score

            yield score_all


Materials = tuple[LoadedModel, FeatureSet, Compressor]


class _Plugin:
    """What every worker has of one search, also one that is started anew: scorers that are free."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def setup(self, worker: Any) -> None:
        self.free: queue.SimpleQueue[Scorer] = queue.SimpleQueue()

    def score(self, plan: Plan) -> Score:
        """Score a plan by a scorer that no other task has, on one core."""
        try:
            scorer = self.free.get_nowait()
        except queue.Empty:
            scorer = Scorer(*self.materials, cores=1)
        score = scorer.score(plan)
        self.free.put(scorer)
        return score


def _score(plan: Plan, search: str) -> Score:
    from distributed import get_worker

    plugin: Any = get_worker().plugins[search]
    score: Score = plugin.score(plan)
    return score


@contextlib.contextmanager
def _registered(client: Any, name: str, materials: Materials, workers: str) -> Iterator[None]:
    from distributed import WorkerPlugin

    kind = type("Plugin", (_Plugin, WorkerPlugin), {})
    with _in_one_line(workers):
        client.register_plugin(kind(materials), name=name)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # workers that are gone have nothing to forget
            client.unregister_worker_plugin(name)


@contextlib.contextmanager
def _in_one_line(workers: str) -> Iterator[None]:
    """What goes wrong on a worker, whatever it is."""
    try:
        yield
    except ShrinkError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ShrinkError(f"--workers {workers}: a worker cannot score: {text[:300]}") from error


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
        stack.enter_context(client)
        try:
            client.wait_for_workers(1, timeout=TIMEOUT_S)
        except TimeoutError as error:
            raise ShrinkError(
                f"the Dask scheduler at {workers} has no worker: start one (dask worker {workers})"
            ) from error
        yield client
