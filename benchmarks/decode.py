"""A whole recogniser in ESPnet's Speech2Text: uncompressed, compressed, compressed with int8.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/decode.py --exp exp/asr_mini_train_asr_rnn \\
        --small exp/asr_mini_train_asr_rnn_shrink/round2 --data dump/raw/test_mini [--json FILE]

Single utterances on one thread, by beam sizes 1 and 10 with the recipe's CTC weight; the models
take turns with every utterance. "stock_dense" is the uncompressed model in ESPnet's own beam
search, the others search in batches (espnet_shrink.compat.beam). Of every utterance the median of
three turns counts; times are sums over the utterances. "encoder" is from features to encoder
output, "features" what makes them, "whole" all of Speech2Text, "search" what of it is neither.
same_nbest counts utterances of which both searches give the uncompressed model's n-best list alike,
texts and order. int8 is ESPnet's --quantize_asr_model with --quantize_modules Linear LSTM. peak_mib
is what a process of its own takes at most, over what it has before it loads the model.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from about import write_result
from tqdm import tqdm

from espnet_shrink.compat.beam import search_in_batches
from espnet_shrink.compat.encoder import encode, features_of
from espnet_shrink.compat.models import find_model
from espnet_shrink.data.kaldi import read_audio, read_folder
from espnet_shrink.layers import (
    Int8LowRankLSTM,
    LowRankLinear,
    LowRankLSTM,
    LowRankLSTMCell,
)

VARIANTS = ("stock_dense", "dense", "small", "int8")
TURNS = 3
CTC_WEIGHT = 0.3
RATE_HZ = 16000
INT8 = {"quantize_asr_model": True, "quantize_modules": ["Linear", "LSTM"]}
PEAK_UTTERANCES = 3


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        print(_peak_mib(args))
        return
    rows = [row for beam in (1, 10) for row in _rows(args, beam)]
    peaks = {name: _peak_of_a_process(name) for name in VARIANTS}
    more = ("times_faster_than_stock", "times_faster", "int8_times_faster")
    print("|beam|part|" + "|".join([*(f"RTF {name}" for name in VARIANTS), *more]) + "|")
    print("|---:|---|" + "---:|" * (len(VARIANTS) + len(more)))
    for row in rows:
        cells = [f"{row[f'{name}_rtf']:.4f}" for name in VARIANTS]
        cells += [f"{row[name]:.2f}" for name in more]
        print(f"|{row['beam']}|{row['part']}|{'|'.join(cells)}|")
    print("peak MiB: " + ", ".join(f"{name} {mib:.0f}" for name, mib in peaks.items()))
    write_result(args.json, utterances=args.utterances, peak_mib=peaks, rows=rows)


def _model(args: argparse.Namespace, name: str, beam: int) -> Any:
    from espnet2.bin.asr_inference import Speech2Text

    files = map(str, find_model(args.exp if name.endswith("dense") else args.small))
    options = INT8 if name == "int8" else {}
    made = Speech2Text(*files, beam_size=beam, ctc_weight=CTC_WEIGHT, nbest=beam, **options)
    if name != "stock_dense":
        search_in_batches(made)
    return made


def _audio(args: argparse.Namespace) -> list[torch.Tensor]:
    chosen = read_folder(args.data)[: args.utterances]
    return [torch.from_numpy(read_audio(utterance, RATE_HZ)) for utterance in chosen]


def _rows(args: argparse.Namespace, beam: int) -> list[dict[str, Any]]:
    audio = _audio(args)
    models = {name: _model(args, name, beam) for name in VARIANTS}
    seconds = {part: dict.fromkeys(VARIANTS, 0.0) for part in ("features", "encoder", "whole")}
    same = 0
    for model in models.values():
        model(audio[0])  # warms up, and compiles
    for samples in tqdm(audio, f"beam {beam}", unit="utterance"):
        turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in VARIANTS}
        said = {}
        for _ in range(TURNS):
            for name, model in models.items():
                times, found = _turn(model, samples)
                turns[name].append(times)
                said[name] = [hypothesis[0] for hypothesis in found]
        same += said["stock_dense"] == said["dense"]
        for name, each in turns.items():
            for index, part in enumerate(("features", "encoder", "whole")):
                seconds[part][name] += statistics.median(times[index] for times in each)
    seconds["search"] = {
        n: seconds["whole"][n] - seconds["features"][n] - seconds["encoder"][n] for n in VARIANTS
    }
    audio_s = sum(map(len, audio)) / RATE_HZ
    return [
        {
            "beam": beam, "part": part, **{f"{n}_rtf": s / audio_s for n, s in found.items()},
            "times_faster_than_stock": found["stock_dense"] / found["small"],
            "times_faster": found["dense"] / found["small"],
            "int8_times_faster": found["dense"] / found["int8"],
            "same_nbest": same,
        }
        for part, found in seconds.items()
    ]  # fmt: skip


def _turn(model: Any, samples: torch.Tensor) -> tuple[tuple[float, float, float], Any]:
    """Seconds of the features, of the encoder and of all, and what was found."""
    recogniser = model.asr_model
    with torch.no_grad():
        start = time.perf_counter()
        features, lengths = features_of(recogniser, samples[None], torch.tensor([len(samples)]))
        made = time.perf_counter()
        encode(recogniser, features, lengths)
        encoded = time.perf_counter()
    found = model(samples)
    return (made - start, encoded - made, time.perf_counter() - encoded), found


def _peak_of_a_process(name: str) -> float:
    done = subprocess.run(
        [sys.executable, *sys.argv, "--peak", name], check=True, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


def _peak_mib(args: argparse.Namespace) -> float:
    import espnet2.bin.asr_inference  # noqa: F401  not the model's

    audio = _audio(args)[:PEAK_UTTERANCES]
    _warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status_mib("VmRSS")
    model = _model(args, args.peak, 10)
    for samples in audio:
        model(samples)
    return _status_mib("VmHWM") - before


@torch.no_grad()
def _warm_up() -> None:
    """Load what every process needs once, whatever its model: compiled code, library buffers."""
    layer = LowRankLSTM(4, 4, ranks={"weight_hh_l0": 1})
    cell, linear = LowRankLSTMCell(4, 4, ranks={"weight_hh": 1}), LowRankLinear(4, 4, 1)
    x = torch.zeros(2, 1, 4)
    for module in (layer, layer.to_dense(), Int8LowRankLSTM.from_float(layer)):
        module(x)
    for module in (cell, linear, cell.to_dense(), linear.to_dense()):
        module(x[0])


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


if __name__ == "__main__":
    main()
