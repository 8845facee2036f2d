"""Search a plan for an uncompressed model within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.loss import check_loss
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import (
    MADE_WITH,
    check_folder,
    claim_folder,
    lock_folder,
    read_yaml,
    recorded,
)
from espnet_shrink.data.digest import content_of
from espnet_shrink.data.features import extract_all
from espnet_shrink.data.kaldi import Utterance, read_folder
from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.score import Score, Scorer
from espnet_shrink.pipeline.opening import made_with
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.plan import Budget, CostModel, Plan
from espnet_shrink.search.finalists import choose
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers import check_evaluations, looks_at_loss
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.search.speed import SpeedLimit, only_faster
from espnet_shrink.search.workers import check_workers, scores

TIMED, SLACK = 10, 1.25  # utterances, and how far they may be from the proxy set's


def check_search(subject: Subject, space: SearchSpace, budget_params: int) -> None:
    """Refuse a search that can be known to fail before anything is computed.

    Raises:
        ShrinkError: the space cannot meet the budget, too few evaluations, or no loss to look at.
    """
    parameters = subject.loaded.model.named_parameters()
    numels = {name: parameter.numel() for name, parameter in parameters}
    # The other limits are known once the model has run.
    budget = Budget(budget_params, subject.search.size_mib)
    Problem(CostModel(subject.survey.sites, numels, {}), space, budget, {})
    check_evaluations(subject.search, space)
    if looks_at_loss(subject.search):
        check_loss(subject.loaded)


@dataclass(frozen=True)
class SearchedPlan:
    """A plan and how it was found.

    Attributes:
        score: on the proxy set.
        dev_score: on all of dev.
        rtf: predicted real-time factor, if that was limited.
    """

    plan: Plan
    params: int
    searcher: str
    evaluations: int
    score: Score
    dev_score: Score
    base_hash: str
    rtf: float | None = None


def search_ranks(
    loaded: LoadedModel,
    proxy: Path,
    data: Path,
    space: SearchSpace,
    settings: SearchSettings,
    budget_params: int,
    out: Path,
    workers: str | None = None,
    recordings: Sequence[Utterance] = (),
) -> SearchedPlan:
    """Search a plan of an uncompressed model, and write `out`/plan.yaml.

    Resumes a search that was cut off; a finished one is only read, and needs no audio.

    Args:
        proxy: folder of the utterances on which plans are scored.
        data: folder of the dev set, on which the best of them are scored again.
        workers: that score plans, as `search.workers.scores` takes it.
        recordings: by whose activations sites are whitened; none: those of `proxy`.

    Raises:
        ShrinkError: the budget cannot be met, or `out` holds a search with other settings.
    """
    subject = Subject(Heard(loaded, data), proxy, settings, given=recordings)
    return search_plan(subject, space, budget_params, out, workers)


def search_plan(
    subject: Subject, space: SearchSpace, budget_params: int, out: Path, workers: str | None
) -> SearchedPlan:
    """As `search_ranks`."""
    # What can be refused comes before the folder is claimed.
    check_workers(workers)
    check_search(subject, space, budget_params)
    finished = (out / "plan.yaml").exists()
    record = _record(subject, space, budget_params, out, finished)
    check_folder(out, record)
    problem = None if finished else _problem(subject, space, budget_params)
    with lock_folder(out):
        claim_folder(out, record)
        if problem is not None:
            _search(subject, problem, out, workers)
        return read_plan(out / "plan.yaml")


def _record(
    subject: Subject,
    space: SearchSpace,
    budget_params: int,
    out: Path,
    finished: bool,
) -> dict[str, Any]:
    """All that decides the plan."""
    heard = recorded(out).get("whitened_by") if finished else [u.name for u in subject.recordings]
    return {
        **dataclasses.asdict(subject.search),
        "budget_params": budget_params,
        "base_hash": subject.loaded.hash,
        **subject.loaded.asked,
        "proxy_set_content": content_of(subject.proxy_folder, out, "proxy_set_content"),
        "data_content": content_of(subject.dev.folder, out, "data_content"),
        "space": space.document,
        MADE_WITH: made_with(),
        "whitened_by": heard,
    }


def _search(subject: Subject, problem: Problem, out: Path, workers: str | None) -> None:
    loaded, settings, compressor = subject.loaded, subject.search, subject.prepared.compressor
    with scores(loaded, subject.proxy, compressor, workers) as score_all:
        result = run_search(problem, score_all, settings, out)
    again = Scorer(loaded, subject.dev.features, compressor)
    best, dev_score = choose(result, settings.finalists, again.score, out)
    speed = problem.speed
    best.plan.save(
        out / "plan.yaml",
        settings.method,
        params=best.params,
        rtf=None if speed is None else speed.latency.rtf(best.plan),
        searcher=best.source,
        evaluations=len(result.trials),
        proxy_wer=best.score.wer,
        proxy_cer=best.score.cer,
        dev_wer=dev_score.wer,
        dev_cer=dev_score.cer,
        metric=dev_score.metric,
        base_hash=loaded.hash,
    )


def _problem(subject: Subject, space: SearchSpace, budget_params: int) -> Problem:
    """The search's problem; with a limit of speed, sites that no rank makes faster stay dense."""
    speed = speed_limit(subject, space)
    if speed is not None:
        space = only_faster(space, speed)
    prepared, multiple = subject.prepared, subject.search.rank_multiple
    budget = subject.search.budget(budget_params)
    return Problem(
        prepared.cost_model, space, budget, prepared.energies, speed, multiple,
        lambda: prepared.loss_changes,
    )  # fmt: skip


def speed_limit(subject: Subject, space: SearchSpace) -> SpeedLimit | None:
    """The limit that the settings set to the time a model takes, if they do.

    Raises:
        ShrinkError: no plan of the space can keep it.
    """
    if subject.search.rtf == math.inf:
        return None
    predictor = subject.method.predictor(subject.loaded, subject.prices, subject.proxy)
    speed = SpeedLimit(predictor, subject.search.rtf)
    speed.check(space)
    return speed


def check_speed(subject: Subject, space: SearchSpace) -> None:
    """Refuse a limit of time far below what any plan takes, before a proxy set is chosen.

    The first few utterances of dev are timed.

    Raises:
        ShrinkError: no plan of the space can keep it.
    """
    loaded, search, method = subject.loaded, subject.search, subject.method
    if search.rtf == math.inf:
        return
    few = extract_all(loaded, read_folder(subject.dev.folder)[:TIMED])
    prices = method.prepare(loaded, few, None, dataclasses.asdict(search)).cost_model
    SpeedLimit(method.predictor(loaded, prices, few), SLACK * search.rtf).check(space)


def read_plan(path: Path) -> SearchedPlan:
    """Read a plan.yaml that a search wrote."""
    header = read_yaml(path)
    try:
        score, dev_score = (
            Score(
                float(header[f"{data}_wer"]),
                float(header[f"{data}_cer"]),
                "cer" if header.get("metric") == "cer" else "wer",
            )  # fmt: skip
            for data in ("proxy", "dev")
        )
        return SearchedPlan(
            Plan.load(path), int(header["params"]), str(header["searcher"]),
            int(header["evaluations"]), score, dev_score, str(header["base_hash"]),
            header.get("rtf"),
        )  # fmt: skip
    except KeyError as error:
        raise ShrinkError(
            f"{path} lacks {error.args[0]}: make it with espnet-shrink search"
        ) from error
