"""Scoring a plan on the proxy set: ours against two runs of espnet2.bin.asr_inference, beam 1.

    cd egs2/librispeech/asr_shrink      (after ./run.sh)
    python ../../../benchmarks/proxy_score.py --exp exp/asr_mini_train_asr_rnn \
        --proxy exp/asr_mini_train_asr_rnn_shrink/proxy [--json FILE]

A plan's score needs the greedy hypotheses of CTC and of attention. Ours decodes both in one
process with all cores; stock ESPnet takes a run for each (ctc_weight 1 and 0), every run started
anew in one single-thread process per core, as a search by scripts would. Scoring is timed for
plans of the energy rule from 1.5x to 2.5x.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from espnet_shrink.analysis import analyse
from espnet_shrink.compat.models import espnet_version
from espnet_shrink.files import write_text
from espnet_shrink.proxy.features import extract
from espnet_shrink.proxy.score import Scorer
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.energy import energy
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


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--proxy", type=Path, required=True)
    parser.add_argument("--plans", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    loaded = open_baseline(args.exp)
    data = extract(loaded, args.proxy)
    analysis = analyse(loaded, data, "whitened")
    scorer = Scorer(loaded, data, analysis.decompositions)
    settings = SearchSettings()
    space = full_space(analysis.survey.sites, settings.min_rank)
    full = sum(analysis.cost_model.numels.values())
    seconds = []
    for number in range(args.plans + 1):
        budget = int(full / (1.5 + number / args.plans))
        plan = energy(Problem(analysis.cost_model, space, budget, analysis.energies))
        start = time.perf_counter()
        scorer.score(plan)
        seconds.append(time.perf_counter() - start)
    ours = statistics.median(seconds[1:])  # the first warms the caches
    attention, ctc = (
        espnet_seconds(loaded.config, loaded.checkpoint, args.proxy, cores, weight)
        for weight in (0.0, 1.0)
    )
    row = {
        "utterances": len(data.utterances), "audio_s": data.audio_s, "cores": cores,
        "score_s": ours, "asr_inference_attention_s": attention, "asr_inference_ctc_s": ctc,
        "speedup": (attention + ctc) / ours, "speedup_over_attention_alone": attention / ours,
        "torch": torch.__version__, "espnet": espnet_version(),
    }  # fmt: skip
    print(
        f"{row['utterances']} utterances, {cores} cores: asr_inference {attention:.1f} s "
        f"(attention) and {ctc:.1f} s (CTC), one plan {ours:.3f} s: {row['speedup']:.0f} times "
        f"faster than both, {row['speedup_over_attention_alone']:.0f} than attention alone"
    )
    if args.json:
        write_text(args.json, json.dumps({"rows": [row]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
