"""Score a plan by the errors it makes on a few utterances."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from espnet_shrink.compat.decoders import check_decoders, decoders_of
from espnet_shrink.compat.encoder import behind_the_encoder
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.compat.text import text_codec
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.data.metric import Metric, without_spaces
from espnet_shrink.errors import ShrinkError, first_line, working_on
from espnet_shrink.methods.base import Compressor
from espnet_shrink.objectives.greedy import (
    ENCODER,
    BatchFailed,
    Encoded,
    decode,
    threads_of,
    views_of,
)
from espnet_shrink.plan import Plan

# A wrong word is wrong in about a third of its characters, so both get about an equal say;
# characters break the many ties that words leave on a small set.
CER_WEIGHT = 3.0


@dataclass(frozen=True)
class Score:
    """Errors on a proxy set, in percent, averaged over the decoders (lower is better).

    Attributes:
        metric: which of the two decides; without words ("cer") `wer` counts whole utterances.
    """

    wer: float
    cer: float
    metric: Metric = "wer"

    @property
    def errors(self) -> float:
        """The figure a search minimises, in percent: (WER + 3 CER) / 4, or CER without words.

        Errors, not a loss: CTC loss can fall while WER rises.
        """
        if self.metric == "cer":
            return self.cer
        return (self.wer + CER_WEIGHT * self.cer) / (1.0 + CER_WEIGHT)

    @property
    def rate(self) -> float:
        """The error rate that decides, in percent."""
        return self.cer if self.metric == "cer" else self.wer

    def __str__(self) -> str:
        cer = f"CER {self.cer:.2f}"
        return cer if self.metric == "cer" else f"WER {self.wer:.2f} {cer}"


class Scorer:
    """Decodes a feature set with any plan of one model, a plan costing one pass.

    The model itself is left alone: plans go into views of it. Encoder outputs are kept, and used
    again for a plan that differs only behind the encoder. Of several threads that ask, one waits
    for the other.

    Attributes:
        seconds: decoder -> what the last decoding took on one core, the encoder's share (if it
            had to run) included.

    Args:
        compressor: of the model, to score plans; None: it is only scored as it is.
        only: the name of a decoder; None: all that the model has.
        cores: to decode on; None: all that this process has.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        data: FeatureSet,
        compressor: Compressor | None = None,
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
        with working_on(f"{loaded.config}: its tokenizer"):
            self._codec = text_codec(loaded)
        self._texts = scored_texts(vars(loaded.args), loaded.config)
        self._config = loaded.config
        self._views = views_of(model, cores)
        self._threads = threads_of(self._views)
        self._lock = threading.Lock()
        self._planner = None if compressor is None else compressor.planner(self._views)
        self._behind = behind_the_encoder(model)
        self._encoder_ranks: dict[str, int] = {}
        self._encoded: Encoded = {}
        self.seconds: dict[str, float] = {}

    def hypotheses(self, plan: Plan | None = None) -> dict[str, list[str]]:
        """Texts of all utterances by decoder, with `plan` (None: the model as it is)."""
        plan = plan or Plan({})
        ranks = {n: r for n, r in plan.factored.items() if not n.startswith(self._behind)}
        with self._lock:
            if self._planner is not None:
                self._planner.apply(plan)
            elif plan.factored:
                raise ValueError("a plan, but nothing that puts it into the model")
            if ranks != self._encoder_ranks:
                self._encoder_ranks, self._encoded = ranks, {}
            spent: dict[str, float] = {}
            try:
                found = decode(
                    self._views, self._threads, self.data.features, self.decoders,
                    self.data.prompts, self._encoded, spent,
                )  # fmt: skip
                encoding = spent.pop(ENCODER, 0.0)
                self.seconds = {name: encoding + decoding for name, decoding in spent.items()}
            except BatchFailed as error:
                names = [self.data.utterances[i].name for i in error.indices]
                others = f" and {len(names) - 1} others" if len(names) > 1 else ""
                raise ShrinkError(
                    f"{self._config}: decoding {names[0]}{others}: {first_line(error.reason)}"
                ) from error.reason
        with working_on(f"{self._config}: text of its tokens"):
            return {
                name: [self._texts.hypothesis(self._codec.to_text(tokens)) for tokens in results]
                for name, results in found.items()
            }

    def by_utterance(self, plan: Plan | None = None) -> np.ndarray:
        """(N) what every utterance adds to the errors of `plan`, in percent."""
        found = self.hypotheses(plan).values()
        data = self.data
        return np.mean([by_utterance(data.references, t, data.metric) for t in found], axis=0)

    def score(self, plan: Plan | None = None) -> Score:
        """Errors of `plan` (None: of the model as it is)."""
        return self.mean(self.hypotheses(plan))

    def mean(self, by_decoder: Mapping[str, Sequence[str]]) -> Score:
        """Errors of `hypotheses()`, averaged over the decoders."""
        return mean_score(by_decoder, self.data)

    def score_all(self, plans: Sequence[Plan]) -> Iterator[Score]:
        """The scores of plans, one after the other."""
        return map(self.score, plans)


def mean_score(by_decoder: Mapping[str, Sequence[str]], data: FeatureSet) -> Score:
    """Errors of a set's texts, averaged over the decoders."""
    scores = [errors(data.references, t, data.metric) for t in by_decoder.values()]
    count = len(scores)
    return Score(
        sum(s.wer for s in scores) / count, sum(s.cer for s in scores) / count, data.metric
    )


def by_utterance(
    references: Sequence[str], hypotheses: Sequence[str], metric: Metric = "wer"
) -> np.ndarray:
    """(N) what every utterance adds to `errors(...).errors`, in percent."""
    references, hypotheses = _as_compared(references, hypotheses, metric)
    pairs = list(zip(references, hypotheses, strict=True))
    characters = _rates([jiwer.process_characters(*pair) for pair in pairs])
    if metric == "cer":
        return characters
    words = _rates([jiwer.process_words(*pair) for pair in pairs])
    return (words + CER_WEIGHT * characters) / (1.0 + CER_WEIGHT)


def _rates(found: Sequence[jiwer.WordOutput] | Sequence[jiwer.CharacterOutput]) -> np.ndarray:
    """Percent of all reference words or characters that each utterance has wrong."""
    wrong = np.array([f.substitutions + f.deletions + f.insertions for f in found], np.float64)
    return 100.0 * wrong / sum(f.hits + f.substitutions + f.deletions for f in found)


def errors(references: Sequence[str], hypotheses: Sequence[str], metric: Metric = "wer") -> Score:
    """Corpus WER and CER in percent, by jiwer; `metric` is the one that decides."""
    references, hypotheses = _as_compared(references, hypotheses, metric)
    return Score(
        100.0 * float(jiwer.wer(references, hypotheses)),
        100.0 * float(jiwer.cer(references, hypotheses)),
        metric,
    )


def _as_compared(
    references: Sequence[str], hypotheses: Sequence[str], metric: Metric
) -> tuple[list[str], list[str]]:
    if metric == "cer":
        return list(map(without_spaces, references)), list(map(without_spaces, hypotheses))
    return list(references), list(hypotheses)
