"""Greedy hypotheses of a whole set, kept where ESPnet's decoding leaves its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_shrink.core.files import write_text
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.objectives.score import Scorer, errors

TAG = "decode_greedy_"


def greedy_tag(decoder: str) -> str:
    """The inference tag of greedy decoding by one decoder ("ctc", "attention", ...)."""
    return f"{TAG}{decoder}"


def decode_set(scorer: Scorer, exp: Path, name: str) -> Mapping[str, Sequence[str]]:
    """Decode the scorer's set by all its decoders and keep the texts in `exp`/TAG/`name`.

    The real-time factor in their log is of one core, on batches, with the features already
    computed; the log says so.

    Returns:
        decoder -> texts.
    """
    found, features = scorer.hypotheses(), scorer.data
    for decoder, texts in found.items():
        folder = exp / greedy_tag(decoder) / name
        rtf = scorer.seconds[decoder] / features.audio_s
        write_text(
            folder / "logdir" / "calculate_rtf.log",
            f"RTF: {rtf:.5f}\n(greedy, {decoder}, in batches on one core, without the frontend)\n",
        )
        lines = [f"{u.name} {text}" for u, text in zip(features.utterances, texts, strict=True)]
        write_text(folder / "text", "\n".join(line.rstrip() for line in sorted(lines)) + "\n")
    return found


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
