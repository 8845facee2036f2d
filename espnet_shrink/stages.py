"""What stages 16 to 18 do, as functions over folders: proxy set, search space, rank search."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jiwer
import yaml

from espnet_shrink.analysis import Analysis, analyse, model_hash
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.cost import CostModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import claim_folder, lock_folder, read_yaml, write_text
from espnet_shrink.lowrank.build import plan_of
from espnet_shrink.lowrank.sites import survey
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.features import FeatureSet, extract
from espnet_shrink.proxy.kaldi import write_folder
from espnet_shrink.proxy.score import Score, Scorer
from espnet_shrink.proxy.select import select
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space
from espnet_shrink.search.trial import SearchResult


@dataclass(frozen=True)
class ProxySet:
    """A proxy folder as `make_proxy` leaves it."""

    folder: Path
    size: int
    score: Score
    data_score: Score
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
              "base_hash": model_hash(loaded.model)}  # fmt: skip
    made = not (out / "proxy.yaml").exists()
    if made:  # all that can be refused comes before the folder is claimed
        features = extract(loaded, data)
        hypotheses = Scorer(loaded, features).hypotheses()
        errors = [
            sum(_word_errors(u.text, texts[i]) for texts in hypotheses.values())
            for i, u in enumerate(features.utterances)
        ]
        chosen = select(method, [len(f) for f in features.features], errors, size, seed)
    with lock_folder(out):
        claim_folder(out, record)
        if made:
            names = {features.utterances[i].name for i in chosen}
            write_folder(out, [features.utterances[i] for i in chosen])
            proxy_score = Scorer(loaded, features.subset(names)).score()
            scores = {
                "proxy": dataclasses.asdict(proxy_score),
                "data": dataclasses.asdict(Scorer(loaded, features).score()),
            }
            write_text(out / "proxy.yaml", yaml.safe_dump(scores, sort_keys=False))
        scores = read_yaml(out / "proxy.yaml")
    return ProxySet(out, size, Score(**scores["proxy"]), Score(**scores["data"]), made)


def _word_errors(reference: str, hypothesis: str) -> int:
    found = jiwer.process_words(reference, hypothesis)
    return found.substitutions + found.deletions + found.insertions


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
    """A plan and how it was found."""

    plan: Plan
    params: int
    searcher: str
    evaluations: int
    score: Score
    base_hash: str


def search_ranks(
    loaded: LoadedModel,
    proxy: FeatureSet,
    space: SearchSpace,
    settings: SearchSettings,
    budget_params: int,
    out: Path,
) -> SearchedPlan:
    """Search the ranks of an uncompressed model, and write `out`/plan.yaml.

    Resumes a search that was cut off; a finished one is only read.

    Raises:
        ShrinkError: the budget cannot be met, or `out` holds a search with other settings.
    """
    numels = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}
    # Refuses a budget that cannot be met, before the folder is claimed.
    Problem(CostModel(survey(loaded.model).sites, numels, {}), space, budget_params, {})
    record = {
        **dataclasses.asdict(settings),
        "budget_params": budget_params,
        "base_hash": model_hash(loaded.model),
        "proxy": sorted(u.name for u in proxy.utterances),
        "space": {name: list(ranks) for name, ranks in space.ranges.items()},
    }
    with lock_folder(out):
        claim_folder(out, record)
        if not (out / "plan.yaml").exists():
            analysis = analyse(loaded, proxy, settings.decomposition)
            result = _search(loaded, proxy, space, settings, budget_params, out, analysis)
            best = result.best
            best.plan.save(
                out / "plan.yaml",
                params=best.params,
                searcher=best.source,
                evaluations=len(result.trials),
                proxy_wer=best.score.wer,
                proxy_cer=best.score.cer,
                base_hash=record["base_hash"],
            )
        return read_plan(out / "plan.yaml")


def read_plan(path: Path) -> SearchedPlan:
    """Read a plan.yaml that a search wrote."""
    header = read_yaml(path)
    try:
        score = Score(float(header["proxy_wer"]), float(header["proxy_cer"]))
        return SearchedPlan(
            Plan.load(path), int(header["params"]), str(header["searcher"]),
            int(header["evaluations"]), score, str(header["base_hash"]),
        )  # fmt: skip
    except KeyError as error:
        raise ShrinkError(
            f"{path} lacks {error.args[0]}: make it with espnet-shrink search"
        ) from error


def _search(
    loaded: LoadedModel,
    proxy: FeatureSet,
    space: SearchSpace,
    settings: SearchSettings,
    budget_params: int,
    out: Path,
    analysis: Analysis,
) -> SearchResult:
    problem = Problem(analysis.cost_model, space, budget_params, analysis.energies)
    scorer = Scorer(loaded, proxy, analysis.decompositions)
    return run_search(problem, scorer.score, settings, out)
