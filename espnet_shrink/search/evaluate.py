"""Score plans for a searcher: each once, so many in all, written down after every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_shrink.core.files import write_text
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import Plan
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.trial import (
    SearchResult,
    Trial,
    log_csv,
    read_scores,
)

# A searcher that has settled repeats itself: this many times the evaluations it may ask.
MOST_ASKED = 4

# So many scores are lost at most when a search is killed within a long batch.
SAVE_EVERY = 10

ScoreAll = Callable[[Sequence[Plan]], Iterable[Score]]
"""Scores of plans, in their order, each as soon as it is there."""


class Spent(Exception):
    """All evaluations are spent; ends a searcher."""


class Evaluator:
    """What a searcher calls with plans to get trials.

    Resuming is running again: searchers are deterministic, and what `out`/log.csv has is not
    scored anew.

    Args:
        problem: prices the plans.
        score_all: scores plans.
        evaluations: different plans that may be scored.
        out: folder of log.csv and of TensorBoard's events.
        bar: counts evaluations.
    """

    def __init__(
        self,
        problem: Problem,
        score_all: ScoreAll,
        evaluations: int,
        out: Path,
        bar: tqdm[Any],
    ) -> None:
        self.problem, self.score_all = problem, score_all
        self.evaluations, self.out = evaluations, out
        self.bar = bar
        self.result = SearchResult(problem.budget_params)
        self._recorded = read_scores(out / "log.csv")
        self._known: dict[str, Trial] = {}
        self._asked = 0
        self._events: Any = None

    @property
    def left(self) -> int:
        """Evaluations that are left."""
        return self.evaluations - len(self.result.trials)

    def __call__(self, plans: Sequence[Plan], source: str) -> list[Trial]:
        """Trials of `plans`, proposed by `source`.

        Raises:
            Spent: they need more evaluations than are left; what is left is spent on the first.
        """
        may_ask = MOST_ASKED * self.evaluations - self._asked
        self._asked += len(plans)
        self._score({p.hash: p for p in plans[: max(0, may_ask)]}, source)
        trials = [self._known[p.hash] for p in plans if p.hash in self._known]
        if len(trials) < len(plans) or may_ask < len(plans):
            raise Spent
        return trials

    def _score(self, plans: dict[str, Plan], source: str) -> None:
        """Make trials of the plans that have none, as many as are left."""
        new = [plan for key, plan in plans.items() if key not in self._known][: self.left]
        fresh = iter(self.score_all([p for p in new if p.hash not in self._recorded]))
        unsaved = 0
        for plan in new:
            score = self._recorded.get(plan.hash)
            if score is None:
                score, unsaved = next(fresh), unsaved + 1
            problem = self.problem
            trial = Trial(source, plan, score, problem.params(plan), problem.keeps_limits(plan))
            self._known[plan.hash] = trial
            self.result.trials.append(trial)
            self._show()
            if unsaved == SAVE_EVERY:
                self._save()
                unsaved = 0
        if unsaved:
            self._save()

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._events is not None:
            self._events.close()

    def _show(self) -> None:
        self.bar.update(1)
        if self.result.within_budget:
            best = self.result.best.score
            self.bar.set_postfix_str(f"best {best}")

    def _save(self) -> None:
        write_text(self.out / "log.csv", log_csv(self.result))
        if not self.result.within_budget:
            return
        from torch.utils.tensorboard import SummaryWriter

        count, best = len(self.result.trials), self.result.best.score
        if self._events is None:
            # Drops what a killed run logged of plans that were scored again.
            self._events = SummaryWriter(str(self.out / "tensorboard"), purge_step=count)
        for name, value in (("errors", best.errors), ("wer", best.wer), ("cer", best.cer)):
            self._events.add_scalar(f"{name}/best", value, count)
