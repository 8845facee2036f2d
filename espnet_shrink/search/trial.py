"""Scored plans, and their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import Plan


@dataclass(frozen=True)
class Trial:
    """One scored plan.

    Attributes:
        source: the searcher that proposed it.
        params: of the whole model.
        keeps_limits: whether it keeps all limits but that of parameters.
    """

    source: str
    plan: Plan
    score: Score
    params: int
    keeps_limits: bool = True


@dataclass
class SearchResult:
    """What a search found: every trial in order, and the best of those within the budget."""

    budget_params: int
    trials: list[Trial] = field(default_factory=list)

    @property
    def within_budget(self) -> list[Trial]:
        """The trials whose plans meet the budget."""
        return [t for t in self.trials if self.meets(t)]

    def meets(self, trial: Trial) -> bool:
        """Whether a trial's plan is within the budget."""
        return trial.params <= self.budget_params and trial.keeps_limits

    @property
    def ranking(self) -> list[Trial]:
        """The trials within the budget, fewest errors first; of equals, the smaller.

        Raises:
            ShrinkError: there is none.
        """
        within = self.within_budget
        if not within:
            raise ShrinkError("the search found no plan within the budget: raise `evaluations`")
        return sorted(within, key=lambda t: (t.score.errors, t.params))

    @property
    def best(self) -> Trial:
        """The first of the ranking."""
        return self.ranking[0]


COLUMNS = ["trial", "source", "wer", "cer", "errors", "params", "within_budget", "best_errors",
           "plan", "metric"]  # fmt: skip


def log_csv(result: SearchResult) -> str:
    """All trials as CSV, floats in full: a search resumes from it; `plan` is the plan's hash."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    best = float("inf")
    for number, t in enumerate(result.trials, 1):
        within = result.meets(t)
        best = min(best, t.score.errors) if within else best
        writer.writerow(
            [number, t.source, t.score.wer, t.score.cer, t.score.errors, t.params, int(within),
             best, t.plan.hash, t.score.metric]
        )  # fmt: skip
    return text.getvalue()


def read_scores(log: Path) -> dict[str, Score]:
    """Plan hash -> score, of a log.csv; nothing if there is none.

    Raises:
        ShrinkError: the file is not what `log_csv` wrote.
    """
    if not log.exists():
        return {}
    try:
        rows: Sequence[dict[str, str]] = list(csv.DictReader(log.open(encoding="utf-8")))
        return {
            row["plan"]: Score(
                float(row["wer"]), float(row["cer"]),
                "cer" if row.get("metric") == "cer" else "wer",  # older logs know only WER
            )
            for row in rows
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ShrinkError(f"{log} is damaged: delete it to search again") from error
