"""An epoch of training in ESPnet's trainer: as it comes, with the plugin, and factorised.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/train.py --exp exp/asr_mini_train_asr_rnn \\
        --small exp/asr_mini_train_asr_rnn_shrink/round2 [--updates 130] [--json FILE]

Every process trains from scratch with the config, seed and batches of EXP (the factorised one with
those of SMALL), on all cores. "espnet" is `python -m espnet2.bin.asr_train`, "plugin" and
"factorised" go through espnet_shrink.run. The processes take turns. An update is timed from
forward pass to forward pass, so loading, backward pass and optimiser are in it, start and
validation are not; times are sums over the updates of a turn, ratios are medians over the turns.
Exit status 1 if a loss of the first 20 updates differs by more than 1e-4 (relative) between espnet
and plugin.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from about import write_result
from tqdm import tqdm

from espnet_shrink.compat.models import find_model
from espnet_shrink.compat.trainer import training_config
from espnet_shrink.core.files import read_yaml, write_text

TRACED = str(Path(__file__).with_name("train_traced.py"))
PLUGIN = ["-m", "espnet_shrink.run"]
COMPARED = 20  # updates whose losses are compared
LARGEST_DIFFERENCE = 1e-4
FIRST = 2  # updates that warm up


def train(launcher: list[str], config: Path, folder: Path, updates: int) -> tuple[float, list]:
    """Seconds of `updates` updates after the first ones, and all losses."""
    changes: dict[str, Any] = {
        "output_dir": str(folder / "exp"), "max_epoch": 1, "num_iters_per_epoch": updates + FIRST,
        "init_param": [], "resume": False, "ngpu": 0, "num_att_plot": 0, "patience": None,
        "scheduler": None, "scheduler_conf": {},
    }  # fmt: skip
    write_text(folder / "train.yaml", yaml.safe_dump(training_config(read_yaml(config), changes)))
    cores = str(len(os.sched_getaffinity(0)))
    log = folder / "log"
    with log.open("wb") as sink:
        done = subprocess.run(
            [sys.executable, *launcher, TRACED, str(folder / "trace"),
             "--config", str(folder / "train.yaml")],
            stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": cores},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the trainer failed:\n{log.read_text()[-2000:]}")
    lines = [line.split() for line in (folder / "trace").read_text().splitlines()]
    seconds = [float(line[0]) for line in lines]
    return seconds[-1] - seconds[FIRST - 1], [float(line[1]) for line in lines]


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=20, help="timed in every turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    base, small = find_model(args.exp)[0], find_model(args.small)[0]
    variants = {"espnet": ([], base), "plugin": (PLUGIN, base), "factorised": (PLUGIN, small)}
    times: dict[str, list[float]] = {name: [] for name in variants}
    losses: dict[str, list[float]] = {}
    for _ in range(args.turns):
        for name, (launcher, config) in tqdm(variants.items(), "a turn", unit="training"):
            with tempfile.TemporaryDirectory() as folder:
                seconds, losses[name] = train(launcher, config, Path(folder), args.updates)
            times[name].append(seconds)
    difference = max(
        abs(a - b) / abs(a)
        for a, b in zip(losses["espnet"][:COMPARED], losses["plugin"][:COMPARED], strict=True)
    )
    rows = [
        {
            "variant": name,
            "update_ms": 1e3 * statistics.median(times[name]) / args.updates,
            "speedup_over_espnet": _ratio(times["espnet"], times[name]),
            "time_over_plugin": _ratio(times[name], times["plugin"]),
        }
        for name in variants
    ]
    print("|training|ms per update|times faster than espnet|time / plugin's|\n|---|---:|---:|---:|")
    for row in rows:
        print(f"|{row['variant']}|{row['update_ms']:.0f}|{row['speedup_over_espnet']:.2f}"
              f"|{row['time_over_plugin']:.2f}|")  # fmt: skip
    print(f"largest relative difference of the first {COMPARED} losses: {difference:.1e}")
    write_result(args.json, updates=args.updates, turns=args.turns,
                 loss_difference=difference, rows=rows)  # fmt: skip
    return int(difference > LARGEST_DIFFERENCE)


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


if __name__ == "__main__":
    sys.exit(main())
