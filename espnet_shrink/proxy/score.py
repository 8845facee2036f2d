"""Score a plan by the errors it makes on a few utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jiwer
import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import text_codec
from espnet_shrink.errors import ShrinkError
from espnet_shrink.lowrank.decompose import Decomposition
from espnet_shrink.plan import DENSE, Plan, Rank
from espnet_shrink.proxy.decoders import decoders_of
from espnet_shrink.proxy.features import FeatureSet
from espnet_shrink.proxy.greedy import decode, views_of

# A wrong word is wrong in about a third of its characters, so both get about an equal say;
# characters break the many ties that words leave on a small set.
CER_WEIGHT = 3.0


@dataclass(frozen=True)
class Score:
    """Errors on a proxy set, in percent, averaged over the decoders (lower is better)."""

    wer: float
    cer: float

    @property
    def errors(self) -> float:
        """The figure a search minimises, in percent: (WER + 3 CER) / 4.

        Errors, not a loss: CTC loss can fall while WER rises.
        """
        return (self.wer + CER_WEIGHT * self.cer) / (1.0 + CER_WEIGHT)


class Scorer:
    """Decodes a feature set with any plan of one model, a plan costing one pass and no SVD.

    The factored model computes the same as the dense one with W = U V multiplied out, so the
    products are written into the dense weights; only sites whose rank changed are touched.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        data: FeatureSet,
        decompositions: Mapping[str, Decomposition] | None = None,
        only: str | None = None,
    ) -> None:
        self.model = loaded.model
        self.data = data
        self.decoders = [d for d in decoders_of(self.model) if only in (None, d.name)]
        if not self.decoders:
            raise ShrinkError(
                f"{loaded.config}: nothing in this model can be decoded greedily: it has no CTC "
                "head, attention decoder or transducer"
            )
        self.decompositions = decompositions or {}
        self._codec = text_codec(loaded)
        self._views = views_of(self.model)
        parameters = dict(self.model.named_parameters())
        self._weights = {name: parameters[name] for name in self.decompositions}
        self._dense = {name: w.detach().clone() for name, w in self._weights.items()}
        self._now: dict[str, Rank] = dict.fromkeys(self._weights, DENSE)

    def hypotheses(self, plan: Plan | None = None) -> dict[str, list[str]]:
        """Texts of all utterances by decoder, with `plan` (None: the model as it is)."""
        if plan is not None:
            self._apply(plan.ranks)
        found = decode(self._views, self.data.features, self.decoders, self._codec.prompt)
        return {
            name: [self._codec.to_text(tokens) for tokens in results]
            for name, results in found.items()
        }

    def score(self, plan: Plan | None = None) -> Score:
        """Errors of `plan` (None: of the model as it is)."""
        by_decoder = self.hypotheses(plan)
        scores = [errors(self.data.references, texts) for texts in by_decoder.values()]
        return Score(
            sum(s.wer for s in scores) / len(scores), sum(s.cer for s in scores) / len(scores)
        )

    @torch.no_grad()
    def _apply(self, ranks: Mapping[str, Rank]) -> None:
        for name, rank in ranks.items():
            if self._now[name] == rank:
                continue
            if isinstance(rank, int):
                product = self.decompositions[name].product(rank)
                self._weights[name].copy_(product.view_as(self._weights[name]))
            else:
                self._weights[name].copy_(self._dense[name])
            self._now[name] = rank


def errors(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Corpus WER and CER in percent, by jiwer."""
    return Score(
        100.0 * float(jiwer.wer(list(references), list(hypotheses))),
        100.0 * float(jiwer.cer(list(references), list(hypotheses))),
    )
