"""What comes before the rounds, as functions over folders: proxy set, search space, rank search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from espnet_shrink.compat.adapters import LORA, adapter_of, check_adapter
from espnet_shrink.compat.models import (
    LoadedModel,
    espnet_version,
    find_model,
    load_model,
)
from espnet_shrink.core.files import (
    MADE_WITH,
    check_folder,
    claim_folder,
    lock_folder,
    read_yaml,
    recorded,
    write_text,
)
from espnet_shrink.data.digest import data_digest
from espnet_shrink.data.features import FeatureSet, extract, extract_all
from espnet_shrink.data.kaldi import Utterance, write_folder
from espnet_shrink.data.select import check_selection, expected_order, select
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import (
    Analysis,
    analyse,
    check_weights,
    latency,
    model_hash,
)
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.doubt import doubt
from espnet_shrink.objectives.score import Score, Scorer
from espnet_shrink.plan import Plan
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.search.finalists import choose
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.pool import find_candidates
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers import check_evaluations
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space
from espnet_shrink.search.speed import SpeedLimit, only_faster
from espnet_shrink.search.workers import check_workers, scores
from espnet_shrink.version import __version__

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
    """Load an uncompressed model of which the files are known; raises as `open_baseline`.

    Says which checkpoint it is; LoRA is merged into the weights.
    """
    described = read_yaml(config)
    check_adapter(described, config)
    link = f" -> {checkpoint.readlink()}" if checkpoint.is_symlink() else ""
    merged = ", its LoRA merged into the weights" if adapter_of(described) == LORA else ""
    tqdm.write(f"model: {checkpoint}{link}{merged}")
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
    known = recorded(out)
    record = {
        "data_content": data_digest(data, str(known.get("data_content", ""))), "size": size,
        "method": method, "seed": seed, "base_hash": model_hash(loaded.model),
        **loaded.asked,
        MADE_WITH: made_with(),
    }  # fmt: skip
    check_folder(out, record)
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
                "content": data_digest(out),
            }
            write_text(out / "proxy.yaml", yaml.safe_dump(facts, sort_keys=False))
        facts = read_yaml(out / "proxy.yaml")
        if data_digest(out, str(facts.get("content", ""))) != facts.get("content"):
            raise ShrinkError(
                f"the proxy set {out} was edited after it was chosen, so what was measured on it "
                "no longer holds: delete it to choose anew, or search with it as it is (--proxy) "
                "in another folder"
            )
    return ProxySet(
        out, size, Score(**facts["proxy"]), Score(**facts["data"]), facts["kendall_tau"], made
    )


def _at_most(features: FeatureSet, count: int, seed: int) -> FeatureSet:
    """All utterances, or `count` of them at random."""
    names = [u.name for u in features.utterances]
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return features.subset({names[i] for i in chosen})


def made_with() -> dict[str, str]:
    """What a folder's results may depend on in their last digits."""
    return {"espnet": espnet_version(), "espnet_shrink": __version__}


def make_space(loaded: LoadedModel, out: Path, settings: SearchSettings) -> SearchSpace:
    """Write `out`/space.yaml, or read it if it is there (it may have been edited).

    Raises:
        ShrinkError: an edited space that does not fit the model, or settings that do not.
    """
    sites = survey(loaded.model).sites
    path = out / "space.yaml"
    if not path.exists():
        space_for(loaded, None, settings).save(path, sites)
    return space_for(loaded, path, settings)


def space_for(loaded: LoadedModel, path: Path | None, settings: SearchSettings) -> SearchSpace:
    """The search space of a model: that of a file, or all ranks, within what `settings` allow.

    Raises:
        ShrinkError: no such file, or a space or a pattern that does not fit the model.
    """
    found = survey(loaded.model)
    space = full_space(found.sites, settings.min_rank) if path is None else SearchSpace.load(path)
    space.check(found.sites)
    matrices = [u.name for u in found.uncompressed if len(u.shape) > 1]
    return space.constrained(found.sites, settings, matrices)


def find_space(loaded: LoadedModel, out: Path, settings: SearchSettings) -> SearchSpace:
    """The space of `out`/space.yaml where there is one, else all ranks; as `space_for`."""
    path = out / "space.yaml"
    return space_for(loaded, path if path.exists() else None, settings)


def check_search(
    loaded: LoadedModel, space: SearchSpace, settings: SearchSettings, budget_params: int
) -> None:
    """Refuse a search that can be known to fail before anything is computed.

    Raises:
        ShrinkError: the space cannot meet the budget, or too few evaluations.
    """
    numels = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}
    Problem(CostModel(survey(loaded.model).sites, numels, {}), space, budget_params, {})
    check_evaluations(settings, space)


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
    """Search the ranks of an uncompressed model, and write `out`/plan.yaml.

    Resumes a search that was cut off; a finished one is only read, and needs no audio.

    Args:
        proxy: folder of the utterances on which plans are scored.
        data: folder of the dev set, on which the best of them are scored again.
        workers: that score plans, as `search.workers.scores` takes it.
        recordings: by whose activations sites are whitened; none: those of `proxy`.

    Raises:
        ShrinkError: the budget cannot be met, or `out` holds a search with other settings.
    """
    # What can be refused comes before the folder is claimed.
    check_workers(workers)
    check_search(loaded, space, settings, budget_params)
    known, finished = recorded(out), (out / "plan.yaml").exists()
    record = {
        **dataclasses.asdict(settings),
        "budget_params": budget_params,
        "base_hash": model_hash(loaded.model),
        **loaded.asked,
        "proxy_set_content": data_digest(proxy, str(known.get("proxy_set_content", ""))),
        "data_content": data_digest(data, str(known.get("data_content", ""))),
        "space": space.document,
        MADE_WITH: made_with(),
        "whitened_by": known.get("whitened_by") if finished else [u.name for u in recordings],
    }
    check_folder(out, record)
    dev = None if finished else extract(loaded, data)
    if dev is not None:
        heard = extract(loaded, proxy).decided_by(dev.metric)
        listened = extract_all(loaded, recordings) if recordings else None
        analysis = analyse(loaded, heard, settings.decomposition, listened)
        problem = _problem(loaded, heard, analysis, space, budget_params, settings)
    with lock_folder(out):
        claim_folder(out, record)
        if dev is not None:
            with scores(loaded, heard, analysis.decompositions, workers) as score_all:
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
    speed = speed_limit(loaded, proxy, prices, space, settings)
    if speed is not None:
        space = only_faster(space, speed)
    return Problem(prices, space, budget_params, analysis.energies, speed, settings.rank_multiple)


def speed_limit(
    loaded: LoadedModel,
    proxy: FeatureSet,
    prices: CostModel,
    space: SearchSpace,
    settings: SearchSettings,
) -> SpeedLimit | None:
    """The limit that `settings` set to the time a model takes, if they do.

    Raises:
        ShrinkError: no plan of the space can keep it.
    """
    if settings.rtf == math.inf:
        return None
    speed = SpeedLimit(latency(loaded, prices, proxy), settings.rtf)
    speed.check(space)
    return speed


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
