"""A whole recogniser in ESPnet's own Speech2Text: the uncompressed model and a compressed one.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/decode.py --exp exp/asr_mini_train_asr_rnn \\
        --small exp/asr_mini_train_asr_rnn_shrink/round2 --data dump/raw/test_mini [--json FILE]

Single utterances on one thread, by beam sizes 1 and 10 with the recipe's CTC weight; the two models
take turns with every utterance. Times are sums over the utterances, the speed-up is their ratio,
and the encoder (with its features) is timed by itself too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from espnet_shrink.compat.models import espnet_version, find_model
from espnet_shrink.files import write_text
from espnet_shrink.proxy.kaldi import read_audio, read_folder

CTC_WEIGHT = 0.3
COLUMNS = ("beam", "part", "dense_rtf", "small_rtf", "speedup")


def seconds(call: Any, *given: Any) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call(*given)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from espnet2.bin.asr_inference import Speech2Text

    torch.set_num_threads(1)
    chosen = read_folder(args.data)[: args.utterances]
    audio = [torch.from_numpy(read_audio(utterance, 16000)) for utterance in chosen]
    total_s = sum(len(samples) for samples in audio) / 16000
    rows = []
    for beam in (1, 10):
        models = [Speech2Text(*map(str, find_model(exp)), beam_size=beam, ctc_weight=CTC_WEIGHT)
                  for exp in (args.exp, args.small)]  # fmt: skip

        @torch.no_grad()
        def encode(model: Any, samples: torch.Tensor) -> None:
            model.asr_model.encode(samples[None], torch.tensor([len(samples)]))

        times = {"encoder": [0.0, 0.0], "whole": [0.0, 0.0]}
        for model in models:
            model(audio[0])  # warms up, and compiles
        for samples in tqdm(audio, f"beam {beam}", unit="utterance"):
            for i, model in enumerate(models):
                times["encoder"][i] += seconds(encode, model, samples)
                times["whole"][i] += seconds(model, samples)
        for part, (dense_s, small_s) in times.items():
            rows.append({"beam": beam, "part": part, "dense_rtf": dense_s / total_s,
                         "small_rtf": small_s / total_s, "speedup": dense_s / small_s})  # fmt: skip
    print("|" + "|".join(COLUMNS) + "|\n|---:|---|---:|---:|---:|")
    for row in rows:
        print(f"|{row['beam']}|{row['part']}|{row['dense_rtf']:.4f}|{row['small_rtf']:.4f}"
              f"|{row['speedup']:.2f}|")  # fmt: skip
    if args.json:
        document = {"utterances": len(audio), "audio_s": total_s, "torch": str(torch.__version__),
                    "espnet": espnet_version(), "rows": rows}  # fmt: skip
        write_text(args.json, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
