"""An LSTM layer at inference on the CPU: torch's dense one against ours, factored.

    python benchmarks/lstm.py [--json FILE]

A layer of H -> H over 200 frames, both matrices of rank H/8, H/4 or H/2, at several batch sizes
and thread counts; one direction, and both for two threads; float32 factors, and 8-bit ones. They
take turns, so that a busy machine slows all; times are medians, speed-ups over dense are medians of
the turns' ratios, and efficiency is the speed-up over the ratio of parameters. limit_ms is what
reading the float32 factors once a frame would take at the bandwidth that this machine shows for a
block of their size: no kernel that reads every weight for every frame can be faster. Exit status 1
if a float32 output differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from about import write_result
from tqdm import tqdm

from espnet_shrink.layers import Int8LowRankLSTM, LowRankLSTM

FRAMES = 200
TURNS = 5
COLUMNS = ("hidden", "rank", "batch", "directions", "threads", "dense_ms", "factored_ms", "speedup",
           "parameter_ratio", "efficiency", "limit_ms", "int8_ms", "int8_speedup")  # fmt: skip


def timed_ms(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


@functools.cache
def seconds_per_byte(size: int) -> float:
    """Reading `size` bytes again and again, on one thread, from wherever they fit."""
    block = torch.ones(max(size, 4096) // 4)
    turns = max(5, 2**27 // size)
    block.sum()
    return min(timed_ms(lambda: [block.sum() for _ in range(turns)]) for _ in range(5)) / (
        1e3 * turns * size
    )


def measure(hidden: int, rank: int, batch: int, directions: int, threads: int) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    dense = torch.nn.LSTM(hidden, hidden, bidirectional=directions == 2)
    ranks = {name: rank for name, _ in dense.named_parameters() if name.startswith("weight")}
    factored = LowRankLSTM.from_dense(dense, ranks)
    dense = factored.to_dense()  # the same function
    int8 = Int8LowRankLSTM.from_float(factored)
    x = torch.randn(FRAMES, batch, hidden)
    with torch.inference_mode():
        expected = dense(x)[0]
        difference, int8_difference = (
            float((expected - layer(x)[0]).abs().max()) for layer in (factored, int8)
        )
        turns = [[timed_ms(lambda layer=layer: layer(x)) for layer in (dense, factored, int8)]
                 for _ in range(TURNS)]  # type: ignore[misc]  # fmt: skip
    dense_ms, factored_ms, int8_ms = (
        statistics.median(column) for column in zip(*turns, strict=True)
    )
    numels = [sum(p.numel() for p in m.parameters() if p.dim() == 2) for m in (dense, factored)]
    speedup, int8_speedup = (statistics.median(turn[0] / turn[i] for turn in turns) for i in (1, 2))
    torch.set_num_threads(1)
    recurrent_bytes = rank * 5 * hidden * 4
    limit_ms = FRAMES * recurrent_bytes * seconds_per_byte(recurrent_bytes) * 1e3
    return {
        "hidden": hidden, "rank": rank, "batch": batch, "directions": directions,
        "threads": threads, "dense_ms": dense_ms, "factored_ms": factored_ms, "speedup": speedup,
        "parameter_ratio": numels[0] / numels[1], "efficiency": speedup * numels[1] / numels[0],
        "limit_ms": limit_ms * directions / min(threads, directions), "difference": difference,
        "int8_ms": int8_ms, "int8_speedup": int8_speedup, "int8_difference": int8_difference,
    }  # fmt: skip


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[320, 512, 1024])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = [(h, h // share, batch, directions, threads) for h in args.hidden
                for share in (8, 4, 2) for batch in args.batch
                for directions, threads in ((1, 1), (2, 1), (2, 2))]  # fmt: skip
    rows = [measure(*setting) for setting in tqdm(settings, "benchmark", unit="row")]
    print(" ".join(f"{name:>15}" for name in COLUMNS))
    for row in rows:
        print(" ".join(f"{row[name]:>15.4g}" for name in COLUMNS))
    write_result(args.json, frames=FRAMES, turns=TURNS, rows=rows)
    return int(max(row["difference"] for row in rows) > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
