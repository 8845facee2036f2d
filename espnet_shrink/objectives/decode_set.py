"""Greedy hypotheses of a whole set, kept where ESPnet's decoding leaves its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_shrink.core.files import write_text
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.objectives.score import Scorer, errors

TAG = "decode_greedy_"


def greedy_tag(decoder: str) -> str:
    """The inference tag of greedy decoding by one decoder ("ctc", "attention", ...)."""
    return f"{TAG}{decoder}"


@dataclass(frozen=True)
class Decoded:
    """A whole set after greedy decoding.

    Attributes:
        texts: decoder -> a text for every utterance.
        seconds: decoder -> what it took on one core, on batches, with the features computed.
    """

    features: FeatureSet
    texts: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]

    def keep(self, exp: Path, name: str) -> None:
        """Write the texts to `exp`/TAG/`name`, and the real-time factors to logs beside them."""
        for decoder, texts in self.texts.items():
            folder = exp / greedy_tag(decoder) / name
            rtf = self.seconds[decoder] / self.features.audio_s
            write_text(
                folder / "logdir" / "calculate_rtf.log",
                f"RTF: {rtf:.5f}\n"
                f"(greedy, {decoder}, in batches on one core, without the frontend)\n",
            )
            pairs = zip(self.features.utterances, texts, strict=True)
            lines = sorted(f"{u.name} {text}".rstrip() for u, text in pairs)
            write_text(folder / "text", "\n".join(lines) + "\n")


def decode_set(scorer: Scorer) -> Decoded:
    """Decode the scorer's set by all its decoders."""
    texts = scorer.hypotheses()
    return Decoded(scorer.data, texts, scorer.seconds)


def kept_texts(exp: Path, name: str) -> dict[str, Path]:
    """Decoder -> the file of its greedy hypotheses of the set `name` in `exp`."""
    paths = sorted(exp.glob(f"{TAG}*/{name}/text"))
    return {path.parent.parent.name.removeprefix(TAG): path for path in paths}


def fewest_errors(by_decoder: Mapping[str, Sequence[str]], features: FeatureSet) -> str:
    """The decoder whose texts of a set have the fewest errors."""
    rates = {
        decoder: errors(features.references, texts, features.metric).rate
        for decoder, texts in by_decoder.items()
    }
    return min(rates, key=lambda decoder: rates[decoder])
