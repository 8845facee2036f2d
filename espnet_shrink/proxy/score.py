"""Score a plan by the errors it makes on a few utterances."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import text_codec
from espnet_shrink.lowrank.decompose import Decomposition
from espnet_shrink.lowrank.replan import Replanner
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.decoders import check_decoders, decoders_of
from espnet_shrink.proxy.encoder import behind_the_encoder
from espnet_shrink.proxy.features import FeatureSet
from espnet_shrink.proxy.greedy import Encoded, decode, threads_of, views_of

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

    The model itself is left alone: plans go into views of it. Encoder outputs are kept, and used
    again for a plan that differs only behind the encoder. Of several threads that ask, one waits
    for the other.

    Args:
        only: the name of a decoder; None: all that the model has.
        cores: to decode on; None: all that this process has.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        data: FeatureSet,
        decompositions: Mapping[str, Decomposition] | None = None,
        only: str | None = None,
        cores: int | None = None,
    ) -> None:
        model = loaded.model
        self.data = data
        check_decoders(loaded)
        self.decoders = [d for d in decoders_of(model) if only in (None, d.name)]
        if not all(prompt.transcribes for prompt in data.prompts):
            # The CTC head writes the language that is spoken.
            self.decoders = [d for d in self.decoders if d.name != "ctc"] or self.decoders
        self._codec = text_codec(loaded)
        self._views = views_of(model, cores)
        self._threads = threads_of(self._views)
        self._lock = threading.Lock()
        self._replanner = Replanner(self._views, decompositions or {})
        self._behind = behind_the_encoder(model)
        self._encoder_ranks: dict[str, int] = {}
        self._encoded: Encoded = {}

    def hypotheses(self, plan: Plan | None = None) -> dict[str, list[str]]:
        """Texts of all utterances by decoder, with `plan` (None: the model as it is)."""
        plan = plan or Plan({})
        ranks = {n: r for n, r in plan.factored.items() if not n.startswith(self._behind)}
        with self._lock:
            self._replanner.apply(plan)
            if ranks != self._encoder_ranks:
                self._encoder_ranks, self._encoded = ranks, {}
            found = decode(
                self._views, self._threads, self.data.features, self.decoders, self.data.prompts,
                self._encoded,
            )  # fmt: skip
        return {
            name: [self._codec.to_text(tokens) for tokens in results]
            for name, results in found.items()
        }

    def by_utterance(self, plan: Plan | None = None) -> np.ndarray:
        """(N) what every utterance adds to the errors of `plan`, in percent."""
        found = self.hypotheses(plan).values()
        return np.mean([by_utterance(self.data.references, texts) for texts in found], axis=0)

    def score(self, plan: Plan | None = None) -> Score:
        """Errors of `plan` (None: of the model as it is)."""
        by_decoder = self.hypotheses(plan)
        scores = [errors(self.data.references, texts) for texts in by_decoder.values()]
        return Score(
            sum(s.wer for s in scores) / len(scores), sum(s.cer for s in scores) / len(scores)
        )

    def score_all(self, plans: Sequence[Plan]) -> Iterator[Score]:
        """The scores of plans, one after the other."""
        return map(self.score, plans)


def by_utterance(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """(N) what every utterance adds to `errors(...).errors`, in percent."""
    pairs = list(zip(references, hypotheses, strict=True))
    words = _rates([jiwer.process_words(*pair) for pair in pairs])
    characters = _rates([jiwer.process_characters(*pair) for pair in pairs])
    return (words + CER_WEIGHT * characters) / (1.0 + CER_WEIGHT)


def _rates(found: Sequence[jiwer.WordOutput] | Sequence[jiwer.CharacterOutput]) -> np.ndarray:
    """Percent of all reference words or characters that each utterance has wrong."""
    wrong = np.array([f.substitutions + f.deletions + f.insertions for f in found], np.float64)
    return 100.0 * wrong / sum(f.hits + f.substitutions + f.deletions for f in found)


def errors(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Corpus WER and CER in percent, by jiwer."""
    return Score(
        100.0 * float(jiwer.wer(list(references), list(hypotheses))),
        100.0 * float(jiwer.cer(list(references), list(hypotheses))),
    )
