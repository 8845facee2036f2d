"""What stages 16 to 18 do, as functions over folders: proxy set, search space, rank search."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from espnet_shrink.analysis import Analysis, analyse, check_weights, latency, model_hash
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.cost import CostModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import claim_folder, lock_folder, read_yaml, write_text
from espnet_shrink.lowrank.build import plan_of
from espnet_shrink.lowrank.sites import survey
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.doubt import doubt
from espnet_shrink.proxy.features import FeatureSet, extract
from espnet_shrink.proxy.kaldi import write_folder
from espnet_shrink.proxy.score import Score, Scorer
from espnet_shrink.proxy.select import check_selection, expected_order, select
from espnet_shrink.search.finalists import choose
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.pool import find_candidates
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space
from espnet_shrink.search.speed import SpeedLimit, only_faster
from espnet_shrink.search.workers import check_workers, scores

# A proxy set is chosen from so many utterances; of a larger dev set they are taken at random.
CANDIDATES = 1000


@dataclass(frozen=True)
class ProxySet:
    """A proxy folder as `make_proxy` leaves it.

    Attributes:
        score, data_score: of the uncompressed model, on the proxy set and on all data.
        kendall_tau: expected between plans' errors on the proxy set and on all data.
        made: now, and not before.
    """

    folder: Path
    size: int
    score: Score
    data_score: Score
    kendall_tau: float
    made: bool


def open_baseline(exp: str | Path, checkpoint: str | None = None) -> LoadedModel:
    """Load an uncompressed model.

    Raises:
        ShrinkError: no model, or one that is compressed already.
    """
    return open_model(*find_model(exp, checkpoint))


def open_model(config: Path, checkpoint: Path) -> LoadedModel:
    """Load an uncompressed model of which the files are known; raises as `open_baseline`."""
    loaded = load_model(config, checkpoint)
    check_weights(loaded)
    if plan_of(loaded.model).factored:
        raise ShrinkError(f"{config.parent} is compressed already: give the uncompressed model")
    return loaded


def make_proxy(
    loaded: LoadedModel, data: str | Path, out: Path, size: int, method: str, seed: int
) -> ProxySet:
    """Choose `size` utterances of `data` and write them to `out` as a Kaldi-style folder.

    Raises:
        ShrinkError: bad data, method or size, or `out` was made with other settings.
    """
    record = {"data": str(data), "size": size, "method": method, "seed": seed,
              "base_hash": model_hash(loaded.model), **loaded.asked}  # fmt: skip
    made = not (out / "proxy.yaml").exists()
    if made:  # all that can be refused comes before the folder is claimed
        features = extract(loaded, data)
        check_selection(method, len(features.utterances), size, seed)
    with lock_folder(out):
        claim_folder(out, record)
        if made:
            scorer = Scorer(loaded, features)
            texts = scorer.hypotheses()
            doubt(loaded, features, texts)
            some = _at_most(features, max(CANDIDATES, size), seed)
            candidates = find_candidates(loaded, some, seed)
            chosen = [some.utterances[i] for i in select(method, candidates, size, seed)]
            write_folder(out, chosen)
            proxy = features.subset({u.name for u in chosen})
            facts: dict[str, Any] = {
                "proxy": dataclasses.asdict(Scorer(loaded, proxy).score()),
                "data": dataclasses.asdict(scorer.mean(texts)),
                "kendall_tau": expected_order(method, candidates, size, seed),
            }
            write_text(out / "proxy.yaml", yaml.safe_dump(facts, sort_keys=False))
        facts = read_yaml(out / "proxy.yaml")
    return ProxySet(
        out, size, Score(**facts["proxy"]), Score(**facts["data"]), facts["kendall_tau"], made
    )


def _at_most(features: FeatureSet, count: int, seed: int) -> FeatureSet:
    """All utterances, or `count` of them at random."""
    names = [u.name for u in features.utterances]
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return features.subset({names[i] for i in chosen})


def make_space(loaded: LoadedModel, out: Path, settings: SearchSettings) -> SearchSpace:
    """Write `out`/space.yaml, or read it if it is there (it may have been edited).

    Raises:
        ShrinkError: an edited space that does not fit the model.
    """
    sites = survey(loaded.model).sites
    path = out / "space.yaml"
    if not path.exists():
        full_space(sites, settings.min_rank).save(path, sites)
    space = SearchSpace.load(path)
    space.check(sites)
    return space


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
    proxy: FeatureSet,
    data: Path,
    space: SearchSpace,
    settings: SearchSettings,
    budget_params: int,
    out: Path,
    workers: str | None = None,
) -> SearchedPlan:
    """Search the ranks of an uncompressed model, and write `out`/plan.yaml.

    Resumes a search that was cut off; a finished one is only read.

    Args:
        proxy: on which plans are scored.
        data: folder of the dev set, on which the best of them are scored again.
        workers: that score plans, as `search.workers.scores` takes it.

    Raises:
        ShrinkError: the budget cannot be met, or `out` holds a search with other settings.
    """
    numels = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}
    # What can be refused comes before the folder is claimed.
    check_workers(workers)
    dev = None if (out / "plan.yaml").exists() else extract(loaded, data)
    Problem(CostModel(survey(loaded.model).sites, numels, {}), space, budget_params, {})
    if dev is not None:
        proxy = proxy.decided_by(dev.metric)
        analysis = analyse(loaded, proxy, settings.decomposition)
        problem = _problem(loaded, proxy, analysis, space, budget_params, settings)
    record = {
        **dataclasses.asdict(settings),
        "budget_params": budget_params,
        "base_hash": model_hash(loaded.model),
        **loaded.asked,
        "proxy": sorted(u.name for u in proxy.utterances),
        "data": str(data),
        "space": {name: list(ranks) for name, ranks in space.ranges.items()},
    }
    with lock_folder(out):
        claim_folder(out, record)
        if dev is not None:
            with scores(loaded, proxy, analysis.decompositions, workers) as score_all:
                result = run_search(problem, score_all, settings, out)
            again = Scorer(loaded, dev, analysis.decompositions)
            best, dev_score = choose(result, settings.finalists, again.score, out)
            speed = problem.speed
            best.plan.save(
                out / "plan.yaml",
                params=best.params,
                **({} if speed is None else {"rtf": speed.latency.rtf(best.plan)}),
                searcher=best.source,
                evaluations=len(result.trials),
                proxy_wer=best.score.wer,
                proxy_cer=best.score.cer,
                dev_wer=dev_score.wer,
                dev_cer=dev_score.cer,
                metric=dev_score.metric,
                base_hash=record["base_hash"],
            )
        return read_plan(out / "plan.yaml")


def _problem(
    loaded: LoadedModel,
    proxy: FeatureSet,
    analysis: Analysis,
    space: SearchSpace,
    budget_params: int,
    settings: SearchSettings,
) -> Problem:
    """The search's problem; with a limit of speed, sites that no rank makes faster stay dense."""
    prices = analysis.cost_model
    speed = None
    if settings.rtf < math.inf:
        speed = SpeedLimit(latency(loaded, prices, proxy), settings.rtf)
        space = only_faster(space, speed)
    return Problem(prices, space, budget_params, analysis.energies, speed, settings.rank_multiple)


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
