"""One training step of a bidirectional LSTM layer on packed sequences: torch against ours.

    python benchmarks/lstm_training.py [--json FILE]

Forward and backward of an 80 -> 256 bidirectional layer on 90 sequences of 60 to 300 frames.
"torch packed" is torch.nn.LSTM as it comes; "dense" is LowRankLSTM with no factored matrix on
the same weights; "factored" has rank 64 in every matrix. The variants take turns, so that a
busy machine slows all of them; times are medians, and speedups are medians of the ratios of
wall time within a turn. Where other work shares the cores, threads wait for each other: set
OMP_NUM_THREADS=1 there, and read cpu_ms, the processor time, which waiting does not count in.
Exit status 1 if dense and torch differ by more than 1e-3 (relative) in any gradient or
1e-5 in any output.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from about import write_result
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from espnet_shrink.layers import LowRankLSTM

IN, HIDDEN, BATCH, FRAMES, RANK, TURNS = 80, 256, 90, 300, 64, 3


def step(lstm: nn.Module, packed: PackedSequence) -> Tensor:
    """Forward, a loss over outputs and final cell state, backward; returns the output frames."""
    lstm.zero_grad()
    output, (_, c_n) = lstm(packed)
    (output.data.square().mean() + c_n.square().mean()).backward()
    return output.data.detach()


def timed_ms(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def difference(torch_lstm: nn.LSTM, ours: LowRankLSTM, packed: PackedSequence) -> tuple:
    """Largest absolute output difference and largest relative gradient difference."""
    outputs = (step(torch_lstm, packed) - step(ours, packed)).abs().max().item()
    gradients = [
        ((a.grad - b.grad).norm() / a.grad.norm()).item()  # type: ignore[union-attr,operator]
        for a, b in zip(torch_lstm.parameters(), ours.parameters(), strict=True)
    ]
    return outputs, max(gradients)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time one LSTM training step on packed sequences: torch against ours."
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    args = parser.parse_args()

    torch.manual_seed(0)
    lengths = torch.randint(60, FRAMES + 1, (BATCH,))
    lengths[0] = FRAMES
    packed = pack_padded_sequence(torch.randn(FRAMES, BATCH, IN), lengths, enforce_sorted=False)
    baseline = nn.LSTM(IN, HIDDEN, bidirectional=True)
    dense = LowRankLSTM.from_dense(baseline, {})
    ranks = {name: RANK for name, _ in baseline.named_parameters() if name.startswith("weight")}
    factored = LowRankLSTM.from_dense(baseline, ranks)
    variants = {"torch packed": baseline, "dense": dense, f"factored r={RANK}": factored}

    output_difference, gradient_difference = difference(baseline, dense, packed)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for turn in range(TURNS):
        print(f"turn {turn + 1} of {TURNS}", file=sys.stderr)
        for name, lstm in variants.items():
            times[name].append(timed_ms(lambda lstm=lstm: step(lstm, packed)))  # type: ignore[misc]

    setting = {
        "threads": torch.get_num_threads(),
        "frames": int(lengths.sum()),
        "padded_frames": FRAMES * BATCH,
    }
    rows = []
    for name, pairs in times.items():
        ratios = [a[0] / b[0] for a, b in zip(times["torch packed"], pairs, strict=True)]
        row = {
            "variant": name,
            "step_ms": round(statistics.median(wall for wall, _ in pairs), 1),
            "cpu_ms": round(statistics.median(cpu for _, cpu in pairs), 1),
            "speedup": round(statistics.median(ratios), 2),
        }
        rows.append(row)
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    print(f"{'variant':<16}{'step_ms':>10}{'cpu_ms':>10}{'speedup':>9}")
    for row in rows:
        print(f"{row['variant']:<16}{row['step_ms']:>10}{row['cpu_ms']:>10}{row['speedup']:>9}")
    print(
        f"dense against torch: output {output_difference:.1e}, gradient {gradient_difference:.1e}"
    )
    write_result(args.json, **setting, rows=rows)
    return int(output_difference > 1e-5 or gradient_difference > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
