"""Rounds of search, factorise and retrain, until the target compression (2008.02897).

Past some compression no rank choice has an acceptable WER without retraining; searching again
after each retraining goes further. The step of each round, and whether it stays, are decided on
dev and proxy data only.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.core.checkpoints import stored_like, types_in
from espnet_shrink.core.files import (
    check_folder,
    claim_folder,
    lock_folder,
    read_yaml,
    write_text,
)
from espnet_shrink.core.settings import require
from espnet_shrink.data.digest import content_of
from espnet_shrink.data.features import extract
from espnet_shrink.data.metric import Metric
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.objectives.decode_set import decode_set
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.score import Score, Scorer, mean_score
from espnet_shrink.pipeline.round_record import Outcome, Round, read_record
from espnet_shrink.pipeline.run_record import checked_record, keys_of
from espnet_shrink.pipeline.search import SearchedPlan, search_plan, speed_limit
from espnet_shrink.pipeline.space import find_space
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.plan import Plan, dense_plan, describe, plan_params
from espnet_shrink.plan.cost import Cost, CostModel
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.search.workers import check_workers
from espnet_shrink.training.espnet2 import leave_untrained
from espnet_shrink.training.espnet2 import retrain as retrain_in_espnet2
from espnet_shrink.training.extras.distil import teacher_extra
from espnet_shrink.training.request import Retrain, TrainingRequest
from espnet_shrink.training.retraining import Retraining
from espnet_shrink.training.rounds_settings import RoundsSettings, next_goal
from espnet_shrink.training.trained import is_trained


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
    space: SearchSpace | None = None,
    retraining: Retraining | None = None,
) -> Outcome:
    """Compress `baseline` round by round in `out`/round1, round2, ...; resume where it was cut off.

    What is finished is only read: no audio, no training data and no trainer are needed for it.

    Args:
        baseline: the uncompressed model, with the config of its training.
        proxy_folder: the proxy set.
        data: the whole dev set, on which rounds are accepted or rolled back.
        first_plan: a plan already searched for the first goal, instead of searching again.
        retrain: trains what a round has factorised. None: nothing does; then one round goes all
            the way, and stays whatever it costs.
        workers: that score plans, as `search.workers.scores` takes it.
        space: of all rounds; by default that of `out`/space.yaml, or all ranks.
        retraining: what `retrain` depends on; by default the config of `baseline` and
            `settings.train` name its data.

    Raises:
        ShrinkError: a budget that cannot be met, a failed training, other settings in `out`.
    """
    space = find_space(baseline, out, search) if space is None else space
    if retrain is not None and retraining is None:
        retraining = Retraining("espnet2", "", lambda: settings.train)
    subject = Subject(Heard(baseline, data), proxy_folder, search, keys_of(retraining))
    return run_rounds_of(
        subject, out, settings, ngpu, first_plan, retrain, workers, space, retraining, out / BASE
    )


def run_rounds_of(
    subject: Subject,
    out: Path,
    settings: RoundsSettings,
    ngpu: int,
    first_plan: SearchedPlan | None,
    retrain: Retrain | None,
    workers: str | None,
    space: SearchSpace,
    retraining: Retraining | None,
    base: Path,
) -> Outcome:
    """As `run_rounds`, of what is known of a model already: runs to several targets share it.

    Args:
        base: experiment folder for the greedy hypotheses of the uncompressed model.
    """
    check_workers(workers)
    record = {
        **checked_record(subject, out, settings, space, retraining),
        "proxy_set_content": content_of(subject.proxy_folder, out, "proxy_set_content"),
        "first_plan": None if first_plan is None else first_plan.plan.hash,
    }
    check_folder(out, record)
    # All that can be refused comes before the folder is claimed.
    rounds = _Rounds(
        subject, out, settings, ngpu, first_plan, retrain, workers, space, retraining, base
    )
    if not (out / "rounds.yaml").exists():
        rounds.prepare()
    with lock_folder(out):
        claim_folder(out, record)
        return rounds.run()


BASE = "base"  # of `out`: the greedy hypotheses of the uncompressed model


@dataclass
class _Rounds:
    """One run; its fields are the arguments of `run_rounds_of`."""

    subject: Subject
    out: Path
    settings: RoundsSettings
    ngpu: int
    first_plan: SearchedPlan | None
    retrain: Retrain | None
    workers: str | None
    space: SearchSpace
    retraining: Retraining | None
    base: Path

    def __post_init__(self) -> None:
        self.baseline, self.data = self.subject.loaded, self.subject.dev.folder
        self.full = self.baseline.params
        self.rate, self.extras = None, {}
        if self.retrain is not None:
            self.rate = self.settings.start_rate(self.baseline.config)
            self.extras = teacher_extra(self.settings.distil, self.baseline)
        types = types_in(self.baseline.checkpoint)
        self.widths = {name: dtype.itemsize for name, dtype in types.items()}
        self.halved = sorted(
            {_name(t) for t in types.values() if t.itemsize < torch.float32.itemsize}
        )
        if self.first_plan is not None:
            self._check(self.first_plan)

    def prepare(self) -> None:
        """Do what any round needs, and so refuse what cannot be used before `out` is claimed."""
        _ = self.subject.proxy
        speed_limit(self.subject, self.space)
        _ = self.judged
        self._train_keys()  # last: it writes shapes to `out`

    def run(self) -> Outcome:
        if self.rate is not None:
            tqdm.write(f"retraining starts at {self.rate.value:g} ({self.rate.source})")
        if not self._folder(1).exists():
            for line in describe(self.subject.survey):
                tqdm.write(f"not compressed: {line}")
        if self.halved and self.retrain is not None:
            tqdm.write(
                f"the checkpoint holds {' and '.join(self.halved)}: what is retrained is float32"
            )
        if not (self.out / "rounds.yaml").exists():
            self.subject.dev.decoded.keep(self.base, self.data.name)
        rounds: list[Round] = []
        now, rollbacks = 1.0, 0
        step = self.settings.target if self.retrain is None else self.settings.step
        accepted: Round | None = None
        while not self.settings.reaches_target(now):
            number = len(rounds) + 1
            goal = next_goal(now, step, self.settings.target)
            done = self._stored(number, goal) or self._round(number, goal, accepted)
            rounds.append(done)
            if done.status == "accepted":
                accepted, now = done, goal
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
        before = self._baseline_cost()
        found = self.subject.survey
        outcome = Outcome(before, rounds, accepted, reached, self._metric())
        text = _dump({
            "final": accepted.round if accepted else None, "reached_target": reached,
            "rounds": len(rounds), "metric": outcome.metric, "baseline": dataclasses.asdict(before),
            "uncompressed": [
                {**dataclasses.asdict(u), "why": str(u.why)} for u in found.uncompressed
            ],
            "full_ranks": {s.name: s.full for s in found.sites},
        })  # fmt: skip
        path = self.out / "rounds.yaml"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
        return outcome

    def _baseline_cost(self) -> Cost:
        path = self.out / "rounds.yaml"
        if path.exists():
            return read_record(Cost, read_yaml(path).get("baseline"), path)
        return self.costs.cost(dense_plan(self.subject.survey.sites))

    def _check(self, first: SearchedPlan) -> None:
        first.plan.check(self.subject.survey.sites)
        require(
            first.base_hash == self.baseline.hash,
            "the plan was searched for another model: search again with this one",
        )
        sites, goal = self.subject.survey.sites, self.settings.first_goal()
        self.space.check_plan(first.plan, sites)
        fixed = self.full - sum(site.params for site in sites)
        params = fixed + plan_params(first.plan, sites)
        require(
            params <= int(self.full / goal),
            f"the plan keeps {params:,} parameters, but the first round aims at {goal:.2f}x, "
            f"{int(self.full / goal):,}: search again with the same target and rounds preset",
        )

    @property
    def costs(self) -> CostModel:
        """Prices of plans of the baseline."""
        return dataclasses.replace(self.subject.prices, widths=self.widths)

    @functools.cached_property
    def judged(self) -> tuple[Metric, float]:
        """The error rate that decides, and up to which of it on dev a round is accepted."""
        decoded = self.subject.dev.decoded
        before = mean_score(decoded.texts, decoded.features)
        tqdm.write(f"baseline: dev {before} (greedy)")
        limit = before.rate * (1 + self.settings.wer_limit_relative)
        return before.metric, limit + self.settings.wer_limit_absolute

    def _metric(self) -> Metric:
        path = self.out / "rounds.yaml"
        if not path.exists():
            return self.judged[0]
        return "cer" if read_yaml(path).get("metric") == "cer" else "wer"

    def _train_keys(self) -> dict[str, Any]:
        return dict(self.subject.train_keys())

    def _folder(self, number: int) -> Path:
        return self.out / f"round{number}"

    def _epochs(self, goal: float) -> int:
        return 0 if self.retrain is None else self.settings.epochs_for(goal)

    def _stored(self, number: int, goal: float) -> Round | None:
        """A round that was finished before, held against what would be done now.

        Raises:
            ShrinkError: it was another round.
        """
        folder = self._folder(number)
        path = folder / "round.yaml"
        if not path.exists():
            return None
        done = read_record(Round, read_yaml(path), path)
        searched = folder / "search" / "plan.yaml"
        if number == 1 and self.first_plan is not None:
            plan = self.first_plan.plan
        else:
            plan = Plan.load(searched if searched.exists() else folder / "plan.yaml")
        epochs = self._epochs(goal)
        for what, before, now in (
            ("goal", round(done.target_compression, 4), round(goal, 4)),
            ("number of epochs", done.epochs, epochs),
            ("plan", Plan(done.ranks).hash, plan.hash),
            ("plan", Plan.load(folder / "plan.yaml").hash, plan.hash),
        ):
            require(
                before == now,
                f"{folder} holds a round with another {what} ({before}, now {now}): delete it and "
                "the rounds after it, or choose another folder",
            )
        if self.retraining is not None:
            is_trained(folder, epochs)
        return done

    def _round(self, number: int, goal: float, accepted: Round | None) -> Round:
        folder = self._folder(number)
        record = folder / "round.yaml"
        current = self.subject
        if accepted is not None:
            current = current.after(self._settled(accepted.round))
        tqdm.write(f"round {number}: aiming at {goal:.2f}x")
        found = self._search(number, goal, current, accepted)
        epochs = self._epochs(goal)
        before = self._compress_and_retrain(folder, found.plan, current, epochs)
        after = self._dev_score(self._load(number), folder)
        # A trainer writes float32.
        widths = self.widths if self.retrain is None else {}
        cost = dataclasses.replace(self.costs, widths=widths).cost(found.plan)
        metric, limit = self.judged
        within = after.rate <= limit
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
            dev_wer_limit=limit,
            ranks=dict(found.plan.ranks),
        )
        write_text(record, _dump(dataclasses.asdict(done)))
        change = f"{before[metric]:.2f} -> {after.rate:.2f} by retraining"
        verdict = done.status
        if self.retrain is None:
            change = f"{after.rate:.2f} without retraining"
            verdict = "within it" if within else "above it, retraining would help"
        tqdm.write(
            f"round {number}: {done.compression:.2f}x, dev {metric.upper()} {change} "
            f"(limit {limit:.2f}): {verdict}"
        )
        return done

    def _search(
        self, number: int, goal: float, current: Subject, accepted: Round | None
    ) -> SearchedPlan:
        if number == 1 and self.first_plan is not None:
            return self.first_plan
        space = self.space
        if accepted is not None:
            space = space.below(Plan(accepted.ranks), self.subject.survey.sites)
        return search_plan(
            current, space, int(self.full / goal), self._folder(number) / "search", self.workers
        )

    def _compress_and_retrain(
        self, folder: Path, plan: Plan, current: Subject, epochs: int
    ) -> dict[str, Any]:
        before = folder / "before_retraining.yaml"
        small = current.loaded.copy()
        current.prepared.compressor.put(small.model, plan)
        if not before.exists():
            # Features anew: a frontend may have been trained along.
            score = Scorer(small, extract(small, self.data)).score()
            write_text(before, _dump(dataclasses.asdict(score)))
        plan.save(folder / "plan.yaml", self.subject.search.method, base_hash=self.baseline.hash)
        state = small.model.state_dict()
        conf = adapter_conf(plan, self.baseline.hash, self.subject.search.method)
        changes = {**self._train_keys(), **adapter_config(conf)}
        if self.retrain is None or self.rate is None:
            stored = stored_like(state, self.baseline.checkpoint)
            leave_untrained(self.baseline.described, stored, folder, changes)
        else:
            self.retrain(TrainingRequest(
                self.baseline.described, state, folder, epochs, self.rate.value, self.ngpu, changes,
                self.extras,
            ))  # fmt: skip
        return read_yaml(before)

    def _dev_score(self, loaded: LoadedModel, folder: Path) -> Score:
        decoded = decode_set(Scorer(loaded, extract(loaded, self.data)))
        decoded.keep(folder, self.data.name)
        return mean_score(decoded.texts, decoded.features)

    def _load(self, number: int) -> LoadedModel:
        loaded = load_model(*find_model(self._folder(number)))
        return loaded.asking(**self.baseline.asked)

    def _settled(self, number: int) -> LoadedModel:
        """A round's model in plain layers, to be searched again."""
        loaded = self._load(number)
        self.subject.method.settle(loaded.model)
        return loaded

    def _train_control(self, epochs: int) -> None:
        """The uncompressed baseline, trained for as many extra epochs as the accepted rounds."""
        state = self.baseline.model.state_dict()
        if is_trained(self.out / "control", epochs, state):
            return
        tqdm.write(f"control: the uncompressed model, {epochs} more epochs")
        assert self.retrain is not None and self.rate is not None
        self.retrain(TrainingRequest(
            self.baseline.described, state, self.out / "control", epochs, self.rate.value,
            self.ngpu, self._train_keys(), self.extras if self.settings.distil.control else {},
        ))  # fmt: skip


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False)
