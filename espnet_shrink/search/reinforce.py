"""REINFORCE: an LSTM controller picks a rank for one site after another (ShrinkML, 1907.03540).

The controller reads, at each site, which site it is, how much of the budget is left and what it
chose before; it returns logits over the site's grid. Rollouts are scored, and the policy gradient
with a moving-average baseline and an entropy bonus raises the chance of the better ones
(Williams 1992). Under the hard reward every action is clipped to what the remaining sites can
still absorb (AMC, 1802.03494, algorithm 1), so every rollout meets the budget.

The controller starts from a prior: the logits of a site's levels fall off with their distance
from a given plan, so the search begins near the best rule of thumb instead of anywhere. The plan
is scaled to the budget that is left, so what one site takes more is taken from all that follow,
and not from the last one alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espnet_shrink.plan import Plan, Rank, Site
from espnet_shrink.search.problem import Problem

HIDDEN = 64
EMBEDDING = 16
PRIOR_WIDTH = 1.0  # levels at which the prior's odds fall to exp(-1/2)
BASELINE_DECAY = 0.8


@dataclass(frozen=True)
class ReinforceSettings:
    """Numbers of the controller.

    Attributes:
        learning_rate: of Adam.
        entropy_weight: price of certainty, in units of the normalised advantage.
    """

    learning_rate: float = 0.01
    entropy_weight: float = 0.3


class Controller(torch.nn.Module):
    """The policy network."""

    def __init__(self, sites: int, levels: int) -> None:
        super().__init__()
        self.site = torch.nn.Embedding(sites, EMBEDDING)
        self.choice = torch.nn.Embedding(levels + 1, EMBEDDING)  # the last: nothing chosen yet
        self.cell = torch.nn.LSTMCell(2 * EMBEDDING + 1, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, levels)
        torch.nn.init.zeros_(self.head.weight)  # the prior alone speaks at first
        torch.nn.init.zeros_(self.head.bias)


class Reinforce:
    """Ask for plans, tell their rewards."""

    def __init__(
        self, problem: Problem, settings: ReinforceSettings, prior: Plan, clip: bool, seed: int
    ) -> None:
        self.problem, self.settings, self.clip = problem, settings, clip
        self.grids = [problem.grid(site) for site in problem.sites]
        levels = max(len(grid) for grid in self.grids)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controller = Controller(len(self.grids), levels)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=settings.learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.prior = [site.params_at(prior.ranks[site.name]) for site in problem.sites]
        self.baseline: float | None = None
        self.spread = 0.0
        self.entropy = float("nan")
        self._log_probs: list[torch.Tensor] = []
        self._entropies: list[torch.Tensor] = []

    def ask(self, rollouts: int) -> list[Plan]:
        """Sample the next plans."""
        self._log_probs, self._entropies = [], []
        return [self._rollout() for _ in range(rollouts)]

    def tell(self, rewards: list[float]) -> None:
        """Learn from the rewards of the plans last asked for, in their order."""
        values = torch.tensor(rewards)
        mean = float(values.mean())
        if self.baseline is None:
            self.baseline, self.spread = mean, float((values - mean).abs().mean())
        advantages = (values - self.baseline) / max(self.spread, 1e-4)
        log_probs, entropies = torch.stack(self._log_probs), torch.stack(self._entropies)
        loss = -(log_probs * advantages.clamp(-3, 3)).mean()
        loss = loss - self.settings.entropy_weight * entropies.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), 1.0)
        self.optimizer.step()
        spread = float((values - self.baseline).abs().mean())
        self.baseline = BASELINE_DECAY * self.baseline + (1 - BASELINE_DECAY) * mean
        self.spread = BASELINE_DECAY * self.spread + (1 - BASELINE_DECAY) * spread
        self.entropy = float(entropies.detach().mean()) / len(self.grids)

    def _rollout(self) -> Plan:
        sites = self.problem.sites
        least = [s.params_at(grid[0]) for s, grid in zip(sites, self.grids, strict=True)]
        least_after, prior_from = _suffix_sums(least), _suffix_sums(self.prior)
        left = self.problem.site_budget
        state = None
        previous = torch.tensor([self.controller.choice.num_embeddings - 1])
        log_prob, entropy = torch.zeros(()), torch.zeros(())
        ranks = {}
        for t, (site, grid) in enumerate(zip(sites, self.grids, strict=True)):
            share_left = torch.tensor([[left / max(self.problem.site_budget, 1)]])
            here = self.controller.site(torch.tensor([t]))
            inputs = torch.cat([here, self.controller.choice(previous), share_left], dim=1)
            state = self.controller.cell(inputs, state)
            allowed = len(grid)
            if self.clip:
                allowed = sum(site.params_at(r) <= left - least_after[t + 1] for r in grid)
            wanted = self.prior[t] * max(left, 1) / prior_from[t]
            distance = (torch.arange(allowed) - _level(wanted, site, grid)) / PRIOR_WIDTH
            logits = self.controller.head(state[0])[0][:allowed] - distance**2 / 2
            log_p = torch.log_softmax(logits, dim=0)
            level = int(torch.multinomial(log_p.detach().exp(), 1, generator=self.generator))
            log_prob = log_prob + log_p[level]
            entropy = entropy - (log_p.exp() * log_p).sum()
            ranks[site.name] = grid[level]
            left -= site.params_at(grid[level])
            previous = torch.tensor([level])
        self._log_probs.append(log_prob)
        self._entropies.append(entropy)
        return Plan(ranks)

    def state_dict(self) -> dict[str, Any]:
        """All that the next ask depends on."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "baseline": self.baseline,
            "spread": self.spread,
            "entropy": self.entropy,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.baseline, self.spread = state["baseline"], state["spread"]
        self.entropy = state["entropy"]


def _suffix_sums(values: list[int]) -> list[int]:
    sums = [0]
    for value in reversed(values):
        sums.append(sums[-1] + value)
    return sums[::-1]


def _level(params: float, site: Site, grid: list[Rank]) -> float:
    """Where `params` lies among the levels of `grid`, in between as in log parameters."""
    return float(np.interp(np.log(params), np.log([site.params_at(r) for r in grid]),
                           np.arange(len(grid))))  # fmt: skip
