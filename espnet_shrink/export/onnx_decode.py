"""Decode a set with exported files and with torch, in the same way, for the report.

ONNX decodes greedily (CTC): other hypotheses than a beam search's. Therefore torch decodes
greedily beside it, and every row of onnx/results.yaml says so in its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from espnet_shrink.compat.decoders import ctc
from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.compat.text import Prompt, text_codec
from espnet_shrink.core.files import read_yaml, sha256
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.onnx_run import OnnxRecogniser, weights_in_memory_mib
from espnet_shrink.objectives.greedy import views_of
from espnet_shrink.report.onnx_rows import Rows, read_rows, write_rows
from espnet_shrink.report.wer import bootstrap_interval, score


def decode_exported(loaded: LoadedModel, folder: Path, data: Path, int8: bool) -> Rows:
    """Decode `data` with torch and with the files in `folder`, and note it in its results.yaml.

    The set is known by the name of its folder. Everything runs on one thread, and the features
    (torch in every row) count for the real-time factor.

    Raises:
        ShrinkError: a model without a CTC head, or bad data.
    """
    if loaded.model.ctc is None:
        raise ShrinkError(f"{loaded.config}: --data decodes by CTC, and this model has no CTC head")
    digest = sha256(loaded.checkpoint)
    rows = read_rows(folder, digest)
    with _one_thread():
        began = time.perf_counter()
        features = extract(loaded, data)
        features_s = time.perf_counter() - began
        for name, decode, size_mib, memory_mib in _systems(loaded, folder, int8):
            row = rows.setdefault(name, {})
            row.update(size_mib=size_mib, memory_mib=memory_mib, metric=features.metric)
            measured = _measure(loaded, features, features_s, decode)
            for key, value in measured.items():
                row.setdefault(key, {})[data.name] = value
    write_rows(folder, digest, rows)
    return rows


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


Decode = Callable[[torch.Tensor], list[int]]


def _systems(
    loaded: LoadedModel, folder: Path, int8: bool
) -> Iterator[tuple[str, Decode, float, float]]:
    """Name, decoder, MiB on disk and MiB in memory."""
    weights = sum(x.numel() * x.element_size() for x in loaded.model.state_dict().values())
    disk_mib = loaded.checkpoint.stat().st_size / 2**20
    shortest = int(read_yaml(folder / "meta.yaml")["shortest_frames"])
    model = views_of(loaded.model)[0]

    def by_torch(x: torch.Tensor) -> list[int]:
        return _torch_greedy(model, x) if len(x) >= shortest else []

    yield "torch, CTC greedy", by_torch, disk_mib, weights / 2**20
    for name, eight in (("ONNX", False), ("ONNX int8", True))[: 2 if int8 else 1]:
        recogniser = OnnxRecogniser(folder, eight)
        files = list(recogniser.files.values())
        yield (
            f"{name}, CTC greedy", _of_arrays(recogniser),
            sum(path.stat().st_size for path in files) / 2**20,
            sum(map(weights_in_memory_mib, files)),
        )  # fmt: skip


def _of_arrays(recogniser: OnnxRecogniser) -> Decode:
    return lambda features: recogniser.ctc_greedy(features.numpy())


@torch.no_grad()
def _torch_greedy(model: Any, features: torch.Tensor) -> list[int]:
    encoded = encode(model, features[None], torch.tensor([len(features)]))
    return ctc.greedy(model, *encoded, [Prompt([])])[0]


def _measure(
    loaded: LoadedModel, data: FeatureSet, features_s: float, decode: Decode
) -> dict[str, Any]:
    to_text = text_codec(loaded).to_text
    began = time.perf_counter()
    tokens = [decode(features) for features in data.features]
    decoding_s = time.perf_counter() - began
    names = [utterance.name for utterance in data.utterances]
    texts = [to_text(each) for each in tokens]
    references = {utterance.name: utterance.text for utterance in data.utterances}
    scores = score(
        references, dict(zip(names, texts, strict=True)),
        scored_texts(vars(loaded.args), loaded.config), data.metric,
    )  # fmt: skip
    return {
        "wer": scores.wer,
        "cer": scores.cer,
        "rtf": (features_s + decoding_s) / data.audio_s,
        "wer_interval": list(bootstrap_interval(scores.words)),
        "cer_interval": list(bootstrap_interval(scores.characters)),
    }
