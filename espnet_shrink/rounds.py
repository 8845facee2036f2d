"""Rounds of search, factorise and retrain, until the target compression (2008.02897).

Past some compression no rank choice has an acceptable WER without retraining; searching again
after each retraining goes further. The step of each round, and whether it stays, are decided on
dev and proxy data only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from espnet_shrink.analysis import analyse, cost_model, model_hash, observe
from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.cost import Cost, CostModel
from espnet_shrink.files import claim_folder, lock_folder, read_yaml, write_text
from espnet_shrink.lowrank.build import adapter_conf, factorise, fold
from espnet_shrink.lowrank.decompose import factors_of
from espnet_shrink.lowrank.sites import describe, survey
from espnet_shrink.metric import Metric
from espnet_shrink.plan import Plan, dense_plan
from espnet_shrink.proxy.doubt import doubt
from espnet_shrink.proxy.features import FeatureSet, extract
from espnet_shrink.proxy.score import Score, Scorer
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space
from espnet_shrink.search.workers import check_workers
from espnet_shrink.settings import require
from espnet_shrink.stages import SearchedPlan, search_ranks
from espnet_shrink.training import Retrain, leave_untrained
from espnet_shrink.training import retrain as retrain_in_espnet2


@dataclass(frozen=True)
class RoundsSettings:
    """How to go on (conf/rounds.yaml explains every key)."""

    target: float = 5.0
    step: float = 2.3
    epochs: int = 2
    final_epochs: int = 6
    learning_rate_factor: float = 0.5
    wer_limit_relative: float = 0.1
    wer_limit_absolute: float = 0.5
    rollbacks: int = 2
    control: bool = True
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            1.0 < self.target < math.inf, f"target compression must be above 1, not {self.target:g}"
        )
        require(self.step > 1.0, f"step must be above 1, not {self.step:g}")
        require(self.epochs >= 1, "epochs must be at least 1")
        require(self.final_epochs >= 1, "final_epochs must be at least 1")
        require(self.learning_rate_factor > 0.0, "learning_rate_factor must be above 0")
        require(
            self.wer_limit_relative >= 0.0 and self.wer_limit_absolute >= 0.0,
            "WER limits must not be negative",
        )
        require(self.rollbacks >= 0, "rollbacks must not be negative")

    def first_goal(self) -> float:
        """The compression that the first round aims at."""
        return next_goal(1.0, self.step, self.target)

    def reaches_target(self, goal: float) -> bool:
        """Whether a round that aims at `goal` is the last."""
        return goal >= self.target * (1 - 1e-6)

    def epochs_for(self, goal: float) -> int:
        """Retraining epochs of a round that aims at `goal`."""
        return self.final_epochs if self.reaches_target(goal) else self.epochs


def next_goal(now: float, step: float, target: float) -> float:
    """The compression of the next round: equal factors, none above `step`, that end at `target`."""
    rounds_left = max(1, math.ceil(math.log(target / now) / math.log(step) - 1e-9))
    return now * (target / now) ** (1.0 / rounds_left)


@dataclass(frozen=True)
class Round:
    """One finished round, as in its round.yaml; error rates are greedy, on dev, in percent.

    Attributes:
        dev: `proxy.score.Score`; `dev_wer_limit` is that of its `metric`, whichever it is.
    """

    round: int
    status: str  # "accepted" or "rolled_back"
    target_compression: float
    compression: float
    params: int
    size_mib: float
    macs_per_audio_second: float
    searcher: str
    search_evaluations: int
    epochs: int
    dev_before_retraining: dict[str, Any]
    dev: dict[str, Any]
    dev_wer_limit: float
    ranks: dict[str, int | str]


@dataclass(frozen=True)
class Outcome:
    """All rounds, and the last accepted one (None: no round was).

    Attributes:
        metric: the error rate that has decided.
    """

    baseline: Cost
    rounds: list[Round]
    final: Round | None
    reached_target: bool
    metric: Metric = "wer"


def run_rounds(
    baseline: LoadedModel,
    proxy_folder: Path,
    data: Path,
    out: Path,
    settings: RoundsSettings,
    search: SearchSettings,
    ngpu: int = 0,
    first_plan: SearchedPlan | None = None,
    retrain: Retrain | None = retrain_in_espnet2,
    workers: str | None = None,
) -> Outcome:
    """Compress `baseline` round by round in `out`/round1, round2, ...; resume where it was cut off.

    Args:
        baseline: the uncompressed model, with the config of its training.
        proxy_folder: the proxy set.
        data: the whole dev set, on which rounds are accepted or rolled back.
        first_plan: a plan already searched for the first goal, instead of searching again.
        retrain: trains what a round has factorised. None: nothing does; then one round goes all
            the way, and stays whatever it costs.
        workers: that score plans, as `search.workers.scores` takes it.

    Raises:
        ShrinkError: a budget that cannot be met, a failed training, other settings in `out`.
    """
    record = {
        **dataclasses.asdict(settings), "search": dataclasses.asdict(search),
        "proxy": str(proxy_folder), "data": str(data), "base_hash": model_hash(baseline.model),
        "first_plan": None if first_plan is None else first_plan.plan.hash, **baseline.asked,
    }  # fmt: skip
    # All that can be refused comes before the folder is claimed.
    rounds = _Rounds(
        baseline, proxy_folder, data, out, settings, search, ngpu, first_plan, retrain, workers
    )
    with lock_folder(out):
        claim_folder(out, record)
        return rounds.run()


class _Rounds:
    def __init__(
        self,
        baseline: LoadedModel,
        proxy_folder: Path,
        data: Path,
        out: Path,
        settings: RoundsSettings,
        search: SearchSettings,
        ngpu: int,
        first_plan: SearchedPlan | None,
        retrain: Retrain | None,
        workers: str | None,
    ) -> None:
        check_workers(workers)
        self.workers = workers
        self.baseline, self.out, self.settings, self.search = baseline, out, settings, search
        self.ngpu, self.first_plan, self.retrain = ngpu, first_plan, retrain
        self.base_hash = model_hash(baseline.model)
        self.base_config = read_yaml(baseline.config)
        self.proxy_folder, self.data = proxy_folder, data
        self.proxy = extract(baseline, proxy_folder)
        self.sites = survey(baseline.model).sites
        self.full = sum(p.numel() for p in baseline.model.parameters())
        self.costs = self._costs()
        # Refuses a target that cannot be met.
        Problem(self.costs, self._space(), int(self.full / settings.target), {})
        if first_plan is not None:
            self._check(first_plan)
        self.metric, self.limit = self._limit()

    def run(self) -> Outcome:
        if not self._folder(1).exists():
            for line in describe(survey(self.baseline.model)):
                tqdm.write(f"not compressed: {line}")
        rounds: list[Round] = []
        current, now, rollbacks = self.baseline, 1.0, 0
        step = self.settings.target if self.retrain is None else self.settings.step
        accepted: Round | None = None
        while not self.settings.reaches_target(now):
            number = len(rounds) + 1
            goal = next_goal(now, step, self.settings.target)
            done = self._round(number, goal, current)
            rounds.append(done)
            if done.status == "accepted":
                accepted, now = done, goal
                current = self._folded(number)
            else:
                rollbacks += 1
                if rollbacks > self.settings.rollbacks:
                    tqdm.write(f"stopping: {rollbacks} rounds were rolled back")
                    break
                step = math.sqrt(goal / now)
                tqdm.write(f"round {number} rolled back; trying steps of {step:.2f}")
        if self.settings.control and accepted is not None and self.retrain is not None:
            self._train_control(sum(r.epochs for r in rounds if r.status == "accepted"))
        reached = self.settings.reaches_target(now)
        before = self.costs.cost(dense_plan(self.sites))
        outcome = Outcome(before, rounds, accepted, reached, self.metric)
        text = _dump({
            "final": accepted.round if accepted else None, "reached_target": reached,
            "rounds": len(rounds), "metric": self.metric, "baseline": dataclasses.asdict(before),
            "uncompressed": [
                dataclasses.asdict(u) for u in survey(self.baseline.model).uncompressed
            ],
            "full_ranks": {s.name: s.full_rank for s in self.sites},
        })  # fmt: skip
        path = self.out / "rounds.yaml"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
        return outcome

    def _space(self) -> SearchSpace:
        return full_space(self.sites, self.search.min_rank)

    def _check(self, first: SearchedPlan) -> None:
        first.plan.check(self.sites)
        require(
            first.base_hash == self.base_hash,
            "the plan was searched for another model: search again with this one",
        )
        params, goal = self.costs.cost(first.plan).params, self.settings.first_goal()
        require(
            params <= int(self.full / goal),
            f"the plan keeps {params:,} parameters, but the first round aims at {goal:.2f}x, "
            f"{int(self.full / goal):,}: search again with the same target and rounds preset",
        )

    def _costs(self) -> CostModel:
        found = survey(self.baseline.model)
        return cost_model(
            self.baseline.model, found, observe(self.baseline, found, self.proxy), self.proxy
        )

    def _limit(self) -> tuple[Metric, float]:
        """The error rate that decides, and what it may be on dev, in percent."""
        dev = extract(self.baseline, self.data)
        scorer = Scorer(self.baseline, dev)
        texts = scorer.hypotheses()
        doubt(self.baseline, dev, texts)
        before = scorer.mean(texts)
        tqdm.write(f"baseline: dev {before} (greedy)")
        limit = before.rate * (1 + self.settings.wer_limit_relative)
        return before.metric, limit + self.settings.wer_limit_absolute

    def _folder(self, number: int) -> Path:
        return self.out / f"round{number}"

    def _round(self, number: int, goal: float, current: LoadedModel) -> Round:
        folder = self._folder(number)
        record = folder / "round.yaml"
        if record.exists():
            return Round(**read_yaml(record))
        tqdm.write(f"round {number}: aiming at {goal:.2f}x")
        proxy = self.proxy if current is self.baseline else extract(current, self.proxy_folder)
        found = self._search(number, goal, current, proxy)
        epochs = 0 if self.retrain is None else self.settings.epochs_for(goal)
        before = self._factorise_and_retrain(folder, found.plan, current, proxy, epochs)
        after = self._dev_score(self._load(number))
        cost = self.costs.cost(found.plan)
        within = after.rate <= self.limit
        done = Round(
            round=number,
            status="accepted" if within or self.retrain is None else "rolled_back",
            target_compression=goal,
            compression=self.full / cost.params,
            **dataclasses.asdict(cost),
            searcher=found.searcher,
            search_evaluations=found.evaluations,
            epochs=epochs,
            dev_before_retraining=before,
            dev=dataclasses.asdict(after),
            dev_wer_limit=self.limit,
            ranks=dict(found.plan.ranks),
        )
        write_text(record, _dump(dataclasses.asdict(done)))
        change = f"{before[self.metric]:.2f} -> {after.rate:.2f} by retraining"
        verdict = done.status
        if self.retrain is None:
            change = f"{after.rate:.2f} without retraining"
            verdict = "within it" if within else "above it, retraining would help"
        tqdm.write(
            f"round {number}: {done.compression:.2f}x, dev {self.metric.upper()} {change} "
            f"(limit {self.limit:.2f}): {verdict}"
        )
        return done

    def _search(
        self, number: int, goal: float, current: LoadedModel, proxy: FeatureSet
    ) -> SearchedPlan:
        if number == 1 and self.first_plan is not None:
            return self.first_plan
        return search_ranks(
            current, proxy, self.data, self._space(), self.search, int(self.full / goal),
            self._folder(number) / "search", self.workers,
        )  # fmt: skip

    def _factorise_and_retrain(
        self, folder: Path, plan: Plan, current: LoadedModel, proxy: FeatureSet, epochs: int
    ) -> dict[str, Any]:
        before = folder / "before_retraining.yaml"
        factored = current.copy()
        decompositions = analyse(current, proxy, self.search.decomposition).decompositions
        factorise(factored.model, plan, factors_of(plan, decompositions))
        if not before.exists():
            score = self._dev_score(factored)
            write_text(before, _dump(dataclasses.asdict(score)))
        plan.save(folder / "plan.yaml", base_hash=self.base_hash)
        state = factored.model.state_dict()
        changes = {
            **self.settings.train, **adapter_config(adapter_conf(plan, self.base_hash)),
        }  # fmt: skip
        if self.retrain is None:
            leave_untrained(self.base_config, state, folder, changes)
        else:
            self.retrain(
                self.base_config, state, folder, epochs, self.settings.learning_rate_factor,
                self.ngpu, changes,
            )  # fmt: skip
        return read_yaml(before)

    def _dev_score(self, loaded: LoadedModel) -> Score:
        # Features anew: a frontend may have been trained along.
        return Scorer(loaded, extract(loaded, self.data)).score()

    def _load(self, number: int) -> LoadedModel:
        loaded = load_model(*find_model(self._folder(number)))
        return loaded.asking(**self.baseline.asked)

    def _folded(self, number: int) -> LoadedModel:
        loaded = self._load(number)
        fold(loaded.model)
        return loaded

    def _train_control(self, epochs: int) -> None:
        """The uncompressed baseline, trained for as many extra epochs as the accepted rounds."""
        tqdm.write(f"control: the uncompressed model, {epochs} more epochs")
        assert self.retrain is not None
        self.retrain(
            self.base_config, self.baseline.model.state_dict(), self.out / "control", epochs,
            self.settings.learning_rate_factor, self.ngpu, self.settings.train,
        )  # fmt: skip


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False)
