"""Decode a whole set greedily and leave the hypotheses where ESPnet's decoding leaves its own."""

from __future__ import annotations

import time
from pathlib import Path

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import write_text
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.objectives.score import Scorer, errors


def best_decoder(loaded: LoadedModel, features: FeatureSet) -> str:
    """The decoder ("ctc", "attention", ...) with which a model has the fewest errors on a set."""
    references, metric = features.references, features.metric
    found = Scorer(loaded, features).hypotheses()
    return min(found, key=lambda name: errors(references, found[name], metric).rate)


def decode_set(loaded: LoadedModel, features: FeatureSet, decoder: str, folder: Path) -> None:
    """Decode a set: `folder`/text, and the real-time factor in its log, unless they are there.

    All cores work at once, on batches, with the features already computed; the factor says so.
    """
    if (folder / "text").exists():
        return
    scorer = Scorer(loaded, features, only=decoder)
    began = time.perf_counter()
    (texts,) = scorer.hypotheses().values()
    seconds = time.perf_counter() - began
    write_text(
        folder / "logdir" / "calculate_rtf.log",
        f"RTF: {seconds / features.audio_s:.5f}\n"
        f"(greedy, {decoder}, batched over all cores, without the frontend)\n",
    )
    lines = [f"{u.name} {text}" for u, text in zip(features.utterances, texts, strict=True)]
    write_text(folder / "text", "\n".join(line.rstrip() for line in sorted(lines)) + "\n")
