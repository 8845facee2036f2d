"""A rank search of 300 plans, and a plan's score against two runs of espnet2.bin.asr_inference.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/search.py --exp exp/asr_mini_train_asr_rnn \\
        --proxy exp/asr_mini_train_asr_rnn_shrink/proxy [--target 5] [--json FILE]

The search is REINFORCE's on the proxy set at the target compression, in one process on all cores.
Its time per plan is compared with what scripts around ESPnet would take: a plan's score needs the
greedy hypotheses of CTC and of attention, so a run of asr_inference for each (beam 1, ctc_weight 1
and 0), on one single-thread process per core. Then a scan of every site, whose plans come all at
once, by one and by two worker processes with a thread each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from about import write_result

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.plan import Plan
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import Problem, fit_to_budget
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space
from espnet_shrink.search.workers import scores

PLANS_OF_WORKERS = 100


def espnet_seconds(
    config: Path, checkpoint: Path, proxy: Path, cores: int, ctc_weight: float
) -> float:
    """Wall time of asr_inference over the proxy set, split over the cores."""
    lines = (proxy / "wav.scp").read_text().splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        start = time.perf_counter()
        for job in range(cores):
            keys = Path(folder, f"keys.{job}")
            keys.write_text("".join(lines[job::cores]))
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "espnet2.bin.asr_inference",
                     "--ngpu", "0", "--beam_size", "1", "--lm_weight", "0",
                     "--ctc_weight", str(ctc_weight),
                     "--data_path_and_name_and_type", f"{proxy}/wav.scp,speech,sound",
                     "--key_file", str(keys), "--asr_train_config", str(config),
                     "--asr_model_file", str(checkpoint), "--output_dir", f"{folder}/out.{job}"],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        if any(process.wait() for process in processes):
            raise SystemExit("asr_inference failed")
        return time.perf_counter() - start


class Search:
    """A model, a proxy set, and a budget."""

    def __init__(self, loaded: LoadedModel, data: FeatureSet, target: float) -> None:
        self.loaded, self.data = loaded, data
        start = time.perf_counter()
        analysis = analyse(loaded, data, "whitened")
        self.analysis_s = time.perf_counter() - start
        self.decompositions = analysis.decompositions
        space = full_space(analysis.survey.sites, SearchSettings.min_rank)
        budget = int(sum(analysis.cost_model.numels.values()) / target)
        self.problem = Problem(analysis.cost_model, space, budget, analysis.energies)

    def plans_per_minute(self, searcher: str, plans: int, workers: str | None) -> float:
        """Of a whole search, once its workers are there and have scored a plan each."""
        settings = SearchSettings(searcher=searcher, evaluations=plans)
        with (
            scores(self.loaded, self.data, self.decompositions, workers) as score_all,
            tempfile.TemporaryDirectory() as folder,
        ):
            list(score_all([sampled(self.problem, seed) for seed in range(2 * int(workers or 1))]))
            start = time.perf_counter()
            found = run_search(self.problem, score_all, settings, Path(folder))
            return 60 * len(found.trials) / (time.perf_counter() - start)


def sampled(problem: Problem, seed: int) -> Plan:
    """A random plan at the budget."""
    generator = np.random.default_rng(1000 + seed)
    return fit_to_budget(problem, generator.normal(0.0, 0.3, len(problem.sites)))


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--proxy", type=Path, required=True)
    parser.add_argument("--target", type=float, default=5.0)
    parser.add_argument("--plans", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    loaded = open_baseline(args.exp)
    data = extract(loaded, args.proxy)
    search = Search(loaded, data, args.target)
    per_minute = search.plans_per_minute("reinforce", args.plans, None)
    by_workers = {
        number: search.plans_per_minute("sensitivity", PLANS_OF_WORKERS, number)
        for number in ("1", "2")
    }
    attention_s, ctc_s = (
        espnet_seconds(loaded.config, loaded.checkpoint, args.proxy, cores, weight)
        for weight in (0.0, 1.0)
    )
    row = {
        "utterances": len(data.utterances), "audio_s": data.audio_s, "cores": cores,
        "target": args.target, "plans": args.plans, "analysis_s": search.analysis_s,
        "search_s": 60 * args.plans / per_minute, "plans_per_minute": per_minute,
        "asr_inference_attention_s": attention_s, "asr_inference_ctc_s": ctc_s,
        "speedup": (attention_s + ctc_s) * per_minute / 60,
        "speedup_over_attention_alone": attention_s * per_minute / 60,
        "plans_per_minute_1_worker": by_workers["1"], "plans_per_minute_2_workers": by_workers["2"],
        "speedup_of_2_workers": by_workers["2"] / by_workers["1"],
    }  # fmt: skip
    print("|figure|value|\n|---|---:|")
    for name, value in row.items():
        print(f"|{name}|{value:.4g}|" if isinstance(value, float) else f"|{name}|{value}|")
    write_result(args.json, rows=[row])


if __name__ == "__main__":
    main()
