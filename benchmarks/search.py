"""A rank search of 300 plans, and a plan's score against two runs of espnet2.bin.asr_inference.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/search.py --exp exp/asr_mini_train_asr_rnn \\
        --proxy exp/asr_mini_train_asr_rnn_shrink/proxy [--target 5] [--json FILE]

The search is REINFORCE's on the proxy set at the target compression, in one process on all cores.
Its time per plan is compared with what scripts around ESPnet would take: a plan's score needs the
greedy hypotheses of CTC and of attention, so a run of asr_inference for each (beam 1, ctc_weight 1
and 0), on one single-thread process per core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from about import write_result

from espnet_shrink.analysis import analyse
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.proxy.features import FeatureSet, extract
from espnet_shrink.proxy.score import Scorer
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space
from espnet_shrink.stages import open_baseline


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


def search_seconds(
    loaded: LoadedModel, data: FeatureSet, target: float, plans: int
) -> tuple[float, float, int]:
    """Seconds of the analysis and of the search, and how many plans were scored."""
    start = time.perf_counter()
    analysis = analyse(loaded, data, "whitened")
    scorer = Scorer(loaded, data, analysis.decompositions)
    analysed = time.perf_counter()
    settings = SearchSettings(evaluations=plans)
    space = full_space(analysis.survey.sites, settings.min_rank)
    budget = int(sum(analysis.cost_model.numels.values()) / target)
    problem = Problem(analysis.cost_model, space, budget, analysis.energies)
    with tempfile.TemporaryDirectory() as folder:
        found = run_search(problem, scorer.score_all, settings, Path(folder))
    return analysed - start, time.perf_counter() - analysed, len(found.trials)


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
    analysis_s, search_s, scored = search_seconds(loaded, data, args.target, args.plans)
    attention_s, ctc_s = (
        espnet_seconds(loaded.config, loaded.checkpoint, args.proxy, cores, weight)
        for weight in (0.0, 1.0)
    )
    row = {
        "utterances": len(data.utterances), "audio_s": data.audio_s, "cores": cores,
        "target": args.target, "plans": scored, "analysis_s": analysis_s, "search_s": search_s,
        "plans_per_minute": 60 * scored / search_s, "asr_inference_attention_s": attention_s,
        "asr_inference_ctc_s": ctc_s, "speedup": (attention_s + ctc_s) * scored / search_s,
        "speedup_over_attention_alone": attention_s * scored / search_s,
    }  # fmt: skip
    print("|figure|value|\n|---|---:|")
    for name, value in row.items():
        print(f"|{name}|{value:.4g}|" if isinstance(value, float) else f"|{name}|{value}|")
    write_result(args.json, rows=[row])


if __name__ == "__main__":
    main()
