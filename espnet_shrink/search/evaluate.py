"""Score plans for a searcher: each once, so many in all, written down after every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet_shrink.files import write_text
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.score import Score
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.trial import SearchResult, Trial, log_csv, read_scores

# A searcher that has settled repeats itself: this many times the evaluations it may ask.
MOST_ASKED = 4


class Spent(Exception):
    """All evaluations are spent; ends a searcher."""


class Evaluator:
    """What a searcher calls with plans to get trials.

    Resuming is running again: searchers are deterministic, and what `out`/log.csv has is not
    scored anew.

    Args:
        problem: prices the plans.
        scorer: plan -> score.
        evaluations: different plans that may be scored.
        out: folder of log.csv and of TensorBoard's events.
        bar: counts evaluations.
    """

    def __init__(
        self,
        problem: Problem,
        scorer: Callable[[Plan], Score],
        evaluations: int,
        out: Path,
        bar: tqdm[Any],
    ) -> None:
        self.problem, self.scorer, self.evaluations, self.out = problem, scorer, evaluations, out
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
        trials, new = [], False
        for plan in plans:
            self._asked += 1
            if self._asked > MOST_ASKED * self.evaluations:
                break
            trial = self._known.get(plan.hash)
            if trial is None:
                if self.left == 0:
                    break
                score = self._recorded.get(plan.hash)
                if score is None:
                    new, score = True, self.scorer(plan)
                trial = Trial(source, plan, score, self.problem.params(plan))
                self._known[plan.hash] = trial
                self.result.trials.append(trial)
                self._show()
            trials.append(trial)
        if new:
            write_text(self.out / "log.csv", log_csv(self.result))
            self._log_events()
        if len(trials) < len(plans):
            raise Spent
        return trials

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._events is not None:
            self._events.close()

    def _show(self) -> None:
        self.bar.update(1)
        if self.result.within_budget:
            best = self.result.best.score
            self.bar.set_postfix_str(f"best WER {best.wer:.2f} CER {best.cer:.2f}")

    def _log_events(self) -> None:
        if not self.result.within_budget:
            return
        from torch.utils.tensorboard import SummaryWriter

        count, best = len(self.result.trials), self.result.best.score
        if self._events is None:
            # Drops what a killed run logged of plans that were scored again.
            self._events = SummaryWriter(str(self.out / "tensorboard"), purge_step=count)
        for name, value in (("errors", best.errors), ("wer", best.wer), ("cer", best.cer)):
            self._events.add_scalar(f"{name}/best", value, count)
