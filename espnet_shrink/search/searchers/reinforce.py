"""REINFORCE: an LSTM controller moves a good plan's ranks, site after site (ShrinkML, 1907.03540).

The search starts from the best classical plan: those of the rules, and where half of the
evaluations are enough to scan every site alone, those of the threshold and of the integer
programme. An action is an offset in log parameters from that plan; the controller reads which
site it is and what it chose before, and gives logits over the offsets. One factor then scales the
sites to the budget, so every rollout meets it, and what one site takes more is taken from all
others. The policy gradient, with a moving-average baseline and an entropy bonus, raises the
chance of the better rollouts (Williams 1992); the best rollouts so far are imitated in every
update (self-imitation learning, 1806.05635).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem, fit_to_budget, log_sizes_of, plan_of_sizes
from espnet_shrink.search.reward import REWARDS
from espnet_shrink.search.searchers.energy import energy
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.searchers.knapsack import knapsack
from espnet_shrink.search.searchers.scan import scan
from espnet_shrink.search.searchers.sensitivity import sensitivity
from espnet_shrink.search.searchers.uniform import uniform
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.trial import Trial

RULES = {"uniform": uniform, "energy": energy, "energy_order": energy_order}

HIDDEN = 64
EMBEDDING = 16
STEP = 0.15  # of an offset, in log parameters
LEVELS = 4  # offsets to each side of the prior plan
PRIOR_WIDTH = 1.5  # levels at which the prior's odds fall to exp(-1/2)
BASELINE_DECAY = 0.8
SCAN_LEVELS = 4  # ranks a site; with fewer, half the evaluations are better spent on rollouts
TRIES = 30  # to sample a new plan
HEATING = 1.1  # of the policy's temperature after a try that failed
ELITE = 6  # rollouts that are imitated
ELITE_WEIGHT = 0.5


def search(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> None:
    """Score classical plans, then rollouts that start from the best of them."""
    for name, rule in RULES.items():
        evaluate([rule(problem)], name)
    if evaluate.left >= 2 * SCAN_LEVELS * len(problem.sites):
        found = scan(problem, evaluate, evaluate.left // 2, "scan")
        evaluate([sensitivity(problem, found)], "sensitivity")
        evaluate([knapsack(problem, found)], "knapsack")
    learner = Reinforce(problem, settings, evaluate.result.best.plan)
    while rollouts := learner.ask(settings.rollouts):
        learner.tell(rollouts, evaluate([r.plan for r in rollouts], "reinforce"))


@dataclass(frozen=True)
class Rollout:
    """One pass of the controller over the sites: the offset's level of each, and the plan."""

    levels: tuple[int, ...]
    plan: Plan


class Controller(torch.nn.Module):
    """The policy network."""

    def __init__(self, sites: int) -> None:
        super().__init__()
        self.site = torch.nn.Embedding(sites, EMBEDDING)
        self.choice = torch.nn.Embedding(2 * LEVELS + 2, EMBEDDING)  # the last: none chosen yet
        self.cell = torch.nn.LSTMCell(2 * EMBEDDING, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, 2 * LEVELS + 1)
        torch.nn.init.zeros_(self.head.weight)  # the prior alone speaks at first
        torch.nn.init.zeros_(self.head.bias)
        offsets = torch.arange(-LEVELS, LEVELS + 1)
        self.register_buffer("prior", -((offsets / PRIOR_WIDTH) ** 2) / 2)

    def log_probs(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """levels (B, sites) -> log probability and entropy of each, (B,)."""
        state, previous = None, levels.new_full((len(levels),), 2 * LEVELS + 1)
        log_prob = entropy = torch.zeros(len(levels))
        for site in range(levels.shape[1]):
            log_p, state = self.step(site, previous, state)
            previous = levels[:, site]
            log_prob = log_prob + log_p.gather(1, previous[:, None])[:, 0]
            entropy = entropy - (log_p.exp() * log_p).sum(dim=1)
        return log_prob, entropy

    def step(
        self, site: int, previous: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """previous (B,) -> log probabilities of the site's offsets (B, levels), and the state."""
        here = self.site(torch.full_like(previous, site))
        state = self.cell(torch.cat([here, self.choice(previous)], dim=1), state)
        return torch.log_softmax(self.head(state[0]) + self.prior, dim=1), state


class Reinforce:
    """Ask for rollouts, tell what they scored."""

    def __init__(self, problem: Problem, settings: SearchSettings, prior: Plan) -> None:
        self.problem, self.settings = problem, settings
        self.centre = log_sizes_of(problem, prior)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.controller = Controller(len(problem.sites))
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=settings.learning_rate)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.baseline: float | None = None
        self.spread = 0.0
        self.elite: list[tuple[float, Rollout]] = []
        self.seen: set[str] = set()

    def ask(self, count: int) -> list[Rollout]:
        """Sample `count` rollouts, of plans that were not sampled before; fewer if few are left."""
        rollouts: list[Rollout] = []
        heat = 1.0
        for _ in range(TRIES * count):
            rollout = self._sample(heat)
            if rollout.plan.hash in self.seen:
                heat *= HEATING  # a policy that has settled looks around again
                continue
            self.seen.add(rollout.plan.hash)
            rollouts.append(rollout)
            if len(rollouts) == count:
                break
        return rollouts

    @torch.no_grad()
    def _sample(self, heat: float) -> Rollout:
        state, previous = None, torch.tensor([2 * LEVELS + 1])
        levels = []
        for site in range(len(self.centre)):
            log_p, state = self.controller.step(site, previous, state)
            odds = torch.softmax(log_p / heat, dim=1)
            previous = torch.multinomial(odds, 1, generator=self.generator)[:, 0]
            levels.append(int(previous))
        return Rollout(tuple(levels), self._plan(levels))

    def _plan(self, levels: Sequence[int]) -> Plan:
        log_sizes = self.centre + STEP * (np.array(levels) - LEVELS)
        if self.settings.reward == "hard":
            return fit_to_budget(self.problem, log_sizes)
        return plan_of_sizes(self.problem, np.exp(log_sizes))

    def tell(self, rollouts: Sequence[Rollout], trials: Sequence[Trial]) -> None:
        """Learn from what the rollouts scored."""
        rewards = [self._reward(trial) for trial in trials]
        values = torch.tensor(rewards)
        mean = float(values.mean())
        if self.baseline is None:
            self.baseline, self.spread = mean, float((values - mean).abs().mean())
        advantages = ((values - self.baseline) / max(self.spread, 1e-4)).clamp(-3, 3)
        log_probs, entropies = self.controller.log_probs(torch.tensor([r.levels for r in rollouts]))
        loss = -(log_probs * advantages).mean()
        loss = loss - self.settings.entropy_weight * entropies.mean()
        self._keep_elite(rewards, rollouts)
        replayed, _ = self.controller.log_probs(torch.tensor([r.levels for _, r in self.elite]))
        loss = loss - ELITE_WEIGHT * replayed.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), 1.0)
        self.optimizer.step()
        spread = float((values - self.baseline).abs().mean())
        self.baseline = BASELINE_DECAY * self.baseline + (1 - BASELINE_DECAY) * mean
        self.spread = BASELINE_DECAY * self.spread + (1 - BASELINE_DECAY) * spread

    def _reward(self, trial: Trial) -> float:
        excess = self.problem.excess(trial.plan)
        return REWARDS[self.settings.reward](trial.score.errors, excess)

    def _keep_elite(self, rewards: Sequence[float], rollouts: Sequence[Rollout]) -> None:
        known = {r.levels for _, r in self.elite}
        new = [(v, r) for v, r in zip(rewards, rollouts, strict=True) if r.levels not in known]
        self.elite = sorted(self.elite + new, key=lambda pair: -pair[0])[:ELITE]
