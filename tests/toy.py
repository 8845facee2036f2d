"""A small model with every kind of site, and made-up search problems, for several test files."""

import numpy as np
import torch
from torch import nn

from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.space import full_space

FEATURES, TOKENS = 8, 11


class Toy(nn.Module):
    """Convolution, two-layer bidirectional LSTM, projection, and a loop over an LSTM cell."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 6)
        self.conv = nn.Conv1d(FEATURES, 10, 3, padding=1)
        self.birnn = nn.LSTM(10, 7, num_layers=2, bidirectional=True, batch_first=True)
        self.proj = nn.Linear(14, 9)
        self.cell = nn.LSTMCell(15, 8)
        self.out = nn.Linear(8, TOKENS)

    def forward(self, x, tokens):
        """x (1, T, FEATURES), tokens: T numbers -> (1, T, TOKENS)."""
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        h = torch.tanh(self.proj(self.birnn(h)[0]))
        state, outputs = None, []
        for t, token in enumerate(tokens):
            step = torch.cat([h[:, t], self.embed(torch.tensor([token]))], dim=1)
            state = self.cell(step, state)
            outputs.append(self.out(state[0]))
        return torch.stack(outputs, dim=1)


class Zoo(nn.Module):
    """The kinds of site that Toy has not, and every way to share a weight."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 12, padding_idx=0)
        self.pointwise = nn.Conv1d(12, 10, 1, stride=2)
        self.plane = nn.Conv2d(3, 8, 1)
        self.gru = nn.GRU(10, 7, num_layers=2, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(14, 9)
        self.left, self.right = nn.Linear(9, 9), nn.Linear(9, 9)
        self.right.weight = self.left.weight
        self.once = nn.Linear(9, 9)
        self.twice = self.once
        self.encoder = nn.Embedding(11, 9)
        self.decoder = nn.Linear(9, 11)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        """tokens (1, T) -> (1, (T + 1) // 2, 11)."""
        h = self.pointwise(self.table(tokens).transpose(1, 2))
        h = h + self.plane(h.new_ones(1, 3, 1, 1)).mean()
        h = self.gru(h.transpose(1, 2))[0]
        state, outputs = None, []
        for t in range(h.shape[1]):
            state = self.cell(h[:, t], state)
            mixed = self.right(self.left(state).tanh()) + self.twice(self.once(state).tanh())
            outputs.append(self.decoder(mixed + self.encoder(tokens[:, t] % 11)))
        return torch.stack(outputs, dim=1)


def zoo(seed=0):
    torch.manual_seed(seed)
    return Zoo().eval()


def toy(seed=0):
    torch.manual_seed(seed)
    return Toy().eval()


def utterance(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, length, FEATURES, generator=generator)
    return x, torch.randint(TOKENS, (length,), generator=generator).tolist()


def random_plan(sites, seed):
    """A rank in range, or dense, for every site."""
    generator = np.random.default_rng(seed)
    ranks = {}
    for site in sites:
        rank = int(generator.integers(0, site.largest_useful_rank + 1))
        ranks[site.name] = rank or DENSE
    return Plan(ranks)


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def problem(
    shapes, compression, seed=0, decay=(0.02, 0.3), min_rank=1, fixed=100, dtype=np.float64
):
    """A problem of sites with these shapes and exponentially falling spectra.

    `compression` counts the sites alone; `fixed` parameters come on top of the budget.
    """
    generator = np.random.default_rng(seed)
    sites = [Site(f"site{i}.weight", shape, "linear") for i, shape in enumerate(shapes)]
    numels = {site.name: site.params for site in sites} | {"bias": fixed}
    energies = {}
    for site in sites:
        falls = np.exp(-generator.uniform(*decay) * np.arange(site.full_rank))
        energies[site.name] = (generator.uniform(0.5, 5.0) * falls**2).astype(dtype)
    budget = fixed + int(sum(site.params for site in sites) / compression)
    space = full_space(sites, min_rank)
    return Problem(CostModel(sites, numels, {}), space, budget, energies)


def squared_distance(task, plan):
    """Errors that are least where the first site is large and the last is small."""
    first, *_, last = (site.params_at(plan.ranks[site.name]) / site.params for site in task.sites)
    return Score(100 * (1 - first) ** 2, 100 * last**2)
