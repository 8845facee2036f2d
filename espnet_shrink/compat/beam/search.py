"""A step of joint beam search over all hypotheses at once; mixed into ESPnet's BeamSearch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_shrink.compat.beam.ctc import Prefixes, PrefixScorer
from espnet_shrink.compat.beam.decoder import RNNDecoderRows, Rows

DECODER, CTC = "decoder", "ctc"


@dataclass(frozen=True)
class _Step:
    """What is known of the hypotheses that a step has chosen, a row for each.

    Attributes:
        tokens: (n, length), from the start symbol on.
        total: (n,), weighted scores so far.
        rows: of the RNN decoder.
        prefixes: of CTC.
        others: scorer -> the states of its own kind.
        sums: scorer -> (n,), scores so far.
    """

    tokens: Tensor
    total: Tensor
    rows: Rows | None
    prefixes: Prefixes | None
    others: dict[str, list[Any]]
    sums: dict[str, Tensor]


@dataclass(frozen=True)
class _Place:
    """Where a hypothesis stands: a row of a step. Stands in for the states of all scorers."""

    step: _Step
    row: int


class InBatches:
    """ESPnet's `BeamSearch`, with other states and another `search`; the loop around it stays."""

    def init_hyp(self: Any, x: Tensor) -> list[Any]:
        """The empty hypothesis of encoder output (T, D)."""
        rows = prefixes = None
        if DECODER in self.full_scorers:
            self.rnn = RNNDecoderRows(self.full_scorers[DECODER], x)
            rows = self.rnn.start()
        if CTC in self.part_scorers:
            logp = self.part_scorers[CTC].ctc.log_softmax(x[None])[0]
            self.prefix = PrefixScorer(logp.detach().float().numpy(), self.eos)
            prefixes = self.prefix.start()
        others = {
            name: [scorer.batch_init_state(x)]
            for name, scorer in self.full_scorers.items() if name != DECODER
        }  # fmt: skip
        zero = torch.zeros(1, dtype=x.dtype)
        step = _Step(torch.tensor([[self.sos]]), zero, rows, prefixes, others,
                     dict.fromkeys(self.scorers, zero))  # fmt: skip
        return self._hypotheses(step)

    def search(self: Any, running_hyps: Sequence[Any], x: Tensor, pre_x: Any = None) -> list[Any]:
        """The best extensions of `running_hyps` by one token, best first."""
        before = _kept([hyp.states[next(iter(hyp.states))] for hyp in running_hyps])
        count = len(before.tokens)
        scores, rows, others = {}, before.rows, {}
        for name, scorer in self.full_scorers.items():
            if name == DECODER:
                scores[name], rows = self.rnn.step(before.tokens[:, -1], before.rows)
            else:
                scores[name], others[name] = scorer.batch_score(
                    before.tokens, before.others[name], x.expand(count, *x.shape)
                )
        weighted = torch.zeros(count, self.n_vocab, dtype=x.dtype)
        for name, found in scores.items():
            weighted += self.weights[name] * found
        if self.do_pre_beam:
            candidates = torch.topk(weighted, self.pre_beam_size, dim=-1)[1]
        else:
            candidates = torch.arange(self.n_vocab).expand(count, -1)
        chosen = weighted.gather(1, candidates)
        gained = {}
        if before.prefixes is not None:
            r, psi = self.prefix.extend(
                before.prefixes, before.tokens[:, -1].numpy(), before.tokens.shape[1] - 1,
                candidates.numpy(),
            )  # fmt: skip
            gained[CTC] = torch.from_numpy(psi - before.prefixes.psi[:, None]).to(x.dtype)
            chosen = chosen + self.weights[CTC] * gained[CTC]
        chosen = chosen + before.total[:, None]
        width = chosen.shape[1]
        total, best = chosen.reshape(-1).topk(min(self.beam_size, chosen.numel()))
        parents = torch.div(best, width, rounding_mode="floor")
        places = best % width
        tokens = candidates[parents, places]
        sums = {
            name: before.sums[name][parents] + found[parents, tokens]
            for name, found in scores.items()
        }
        prefixes = None
        if before.prefixes is not None:
            sums[CTC] = before.sums[CTC][parents] + gained[CTC][parents, places]
            at = parents.numpy(), places.numpy()
            prefixes = Prefixes(r[at], psi[at])
        return self._hypotheses(_Step(
            torch.cat((before.tokens[parents], tokens[:, None]), dim=1), total,
            None if rows is None else rows.select(parents), prefixes,
            {n: _of(self.full_scorers[n], states, parents) for n, states in others.items()},
            {name: sums[name] for name in self.scorers},
        ))  # fmt: skip

    def _hypotheses(self: Any, step: _Step) -> list[Any]:
        make = sys.modules[type(self).__mro__[2].__module__].Hypothesis
        sums = {name: values.unbind() for name, values in step.sums.items()}
        found = []
        for row, (tokens, total) in enumerate(
            zip(step.tokens.unbind(), step.total.unbind(), strict=True)
        ):
            found.append(make(
                yseq=tokens, score=total, scores={name: each[row] for name, each in sums.items()},
                states=dict.fromkeys(self.scorers, _Place(step, row)), hs=[],
            ))  # fmt: skip
        return found


def _of(scorer: Any, states: Any, parents: Tensor) -> list[Any]:
    return [scorer.select_state(states, row) for row in parents.tolist()]


def _kept(places: Sequence[_Place]) -> _Step:
    """The rows of a step that are still running."""
    step, rows = places[0].step, [place.row for place in places]
    if len(rows) == len(step.tokens):
        return step
    kept, at = torch.tensor(rows), np.array(rows)
    prefixes = step.prefixes
    return _Step(
        step.tokens[kept], step.total[kept], None if step.rows is None else step.rows.select(kept),
        None if prefixes is None else Prefixes(prefixes.r[at], prefixes.psi[at]),
        {name: [states[row] for row in rows] for name, states in step.others.items()},
        {name: values[kept] for name, values in step.sums.items()},
    )  # fmt: skip
