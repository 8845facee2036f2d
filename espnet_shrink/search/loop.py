"""Run a searcher: score, learn, log and save after every update; a kill costs one update."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from espnet_shrink.checkpoints import write_checkpoint
from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import write_text
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.score import Score
from espnet_shrink.search.energy import energy
from espnet_shrink.search.energy_order import energy_order
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.reinforce import Reinforce, ReinforceSettings
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.uniform import uniform
from espnet_shrink.settings import require

# Rules that propose one plan each; all are scored beside every search.
RULES: dict[str, Callable[[Problem], Plan]] = {
    "uniform": uniform,
    "energy": energy,
    "energy_order": energy_order,
}
SEARCHERS = ["reinforce", *RULES]


@dataclass(frozen=True)
class SearchSettings:
    """How to search (conf/search.yaml explains every key)."""

    searcher: str = "reinforce"
    reward: str = "hard"
    evaluations: int = 100
    decomposition: str = "whitened"
    levels: int = 24
    min_rank: int = 4
    rollouts: int = 6
    learning_rate: float = 0.01
    entropy_weight: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.searcher in SEARCHERS,
            f"unknown searcher {self.searcher}: choose of {', '.join(SEARCHERS)}",
        )
        require(
            self.reward in REWARDS, f"unknown reward {self.reward}: choose of {', '.join(REWARDS)}"
        )
        require(
            self.decomposition in ("plain", "whitened"),
            f"unknown decomposition {self.decomposition}: choose of plain, whitened",
        )
        for name in ("evaluations", "levels", "min_rank", "rollouts"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(0 <= self.seed < 2**63, "seed must be from 0 to 2**63 - 1")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.entropy_weight >= 0, "entropy_weight must not be negative")


@dataclass(frozen=True)
class Trial:
    """One scored plan."""

    source: str
    plan: Plan
    score: Score
    params: int
    reward: float


@dataclass
class SearchResult:
    """What a search found: every trial in order, and the best of those within the budget.

    With a rule as the searcher only the rule's own plan may be chosen.
    """

    trials: list[Trial] = field(default_factory=list)
    budget_params: int = 0
    searcher: str = "reinforce"

    @property
    def best(self) -> Trial:
        """Fewest errors within the budget; of equals, the smaller."""
        within = [
            t
            for t in self.trials
            if t.params <= self.budget_params and self.searcher in ("reinforce", t.source)
        ]
        if not within:
            raise ShrinkError("the search found no plan within the budget: raise `evaluations`")
        return min(within, key=lambda t: (t.score.errors, t.params))


def run_search(
    problem: Problem,
    scorer: Callable[[Plan], Score],
    settings: SearchSettings,
    out: Path,
    quiet: bool = False,
) -> SearchResult:
    """Search until `settings.evaluations` plans are scored, at least those of the rules.

    Resumes from `out/state.pt`. A plan that comes up again is not scored again, and a controller
    that has settled may end the search early.

    Writes out/state.pt, out/log.csv and TensorBoard events after every update.
    """
    search = _Search(problem, scorer, settings, out)
    search.resume()
    with tqdm(
        total=settings.evaluations,
        initial=len(search.result.trials),
        desc="rank search",
        unit="plan",
        disable=quiet,
        mininterval=1.0,
    ) as bar:
        search.run(bar)
    return search.result


class _Search:
    def __init__(
        self, problem: Problem, scorer: Callable[[Plan], Score], settings: SearchSettings, out: Path
    ) -> None:
        self.problem, self.scorer, self.settings, self.out = problem, scorer, settings, out
        self.result = SearchResult([], problem.budget_params, settings.searcher)
        self.known: dict[str, Trial] = {}
        self.updates = 0
        self.controller_state: dict[str, Any] | None = None

    def run(self, bar: Any) -> None:
        # The searcher first: of equal plans the first rule is named as the source.
        names = sorted(RULES, key=lambda name: name != self.settings.searcher)
        by_rule = [self._trial(RULES[name](self.problem), name, bar) for name in names]
        if self.settings.searcher != "reinforce":
            self._save(None)
            return
        first = min(by_rule, key=lambda t: t.score.errors)
        reinforce = Reinforce(
            self.problem,
            ReinforceSettings(self.settings.learning_rate, self.settings.entropy_weight),
            prior=first.plan,
            clip=self.settings.reward == "hard",
            seed=self.settings.seed,
        )
        if self.controller_state is not None:
            reinforce.load_state_dict(self.controller_state)
        from torch.utils.tensorboard import SummaryWriter

        # purge_step drops what a killed run logged of updates that are now done again.
        events = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.updates + 1)
        # A controller that has settled repeats itself and scores nothing new: stop it in the end.
        most_updates = 4 * self.settings.evaluations // self.settings.rollouts + 1
        while len(self.result.trials) < self.settings.evaluations and self.updates < most_updates:
            left = self.settings.evaluations - len(self.result.trials)
            plans = reinforce.ask(min(self.settings.rollouts, left))
            reinforce.tell([self._trial(plan, "reinforce", bar).reward for plan in plans])
            self.updates += 1
            self._save(reinforce)
            self._log_update(reinforce, events)
        events.close()

    def _trial(self, plan: Plan, source: str, bar: Any) -> Trial:
        if plan.hash in self.known:
            return self.known[plan.hash]
        score = self.scorer(plan)
        params = self.problem.params(plan)
        excess = params / self.problem.budget_params - 1.0
        reward = REWARDS[self.settings.reward](score.errors, excess)
        trial = Trial(source, plan, score, params, reward)
        self._add(trial)
        bar.update(1)
        if any(t.params <= self.problem.budget_params for t in self.result.trials):
            best = self.result.best
            bar.set_postfix_str(f"best WER {best.score.wer:.2f} CER {best.score.cer:.2f}")
        return trial

    def _add(self, trial: Trial) -> None:
        self.known[trial.plan.hash] = trial
        self.result.trials.append(trial)

    def resume(self) -> None:
        path = self.out / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        for source, ranks, wer, cer, params, reward in state["trials"]:
            self._add(Trial(source, Plan(ranks), Score(wer, cer), params, reward))
        self.updates = state["updates"]
        self.controller_state = state["controller"]

    def _save(self, reinforce: Reinforce | None) -> None:
        trials = self.result.trials
        state = {
            "trials": [
                (t.source, dict(t.plan.ranks), t.score.wer, t.score.cer, t.params, t.reward)
                for t in trials
            ],
            "updates": self.updates,
            "controller": None if reinforce is None else reinforce.state_dict(),
        }
        # The state last: what was cut off before it is done again.
        write_text(self.out / "log.csv", log_csv(self.result))
        write_checkpoint(self.out / "state.pt", state)

    def _log_update(self, reinforce: Reinforce, events: Any) -> None:
        best = self.result.best
        for name, value in (
            ("errors/best", best.score.errors),
            ("wer/best", best.score.wer),
            ("cer/best", best.score.cer),
            ("reinforce/baseline", reinforce.baseline),
            ("reinforce/entropy_per_site", reinforce.entropy),
            ("evaluations", len(self.result.trials)),
        ):
            events.add_scalar(name, value, self.updates)


LOG_COLUMNS = ["trial", "source", "wer", "cer", "errors", "reward", "params", "within_budget",
               "best_errors", "plan"]  # fmt: skip


def log_csv(result: SearchResult) -> str:
    """All trials as CSV; `plan` is the plan's hash."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LOG_COLUMNS)
    best = float("inf")
    for number, t in enumerate(result.trials, 1):
        within = t.params <= result.budget_params
        best = min(best, t.score.errors) if within else best
        writer.writerow(
            [number, t.source, f"{t.score.wer:.4f}", f"{t.score.cer:.4f}", f"{t.score.errors:.4f}",
             f"{t.reward:.6f}", t.params, int(within), f"{best:.4f}", t.plan.hash]
        )  # fmt: skip
    return text.getvalue()
