"""Which utterances to score plans on: how well each choice keeps the order that all of dev gives.

    cd egs2/librispeech/asr_shrink      (after ./run.sh --corpus digits --stop_stage 11)
    python ../../../benchmarks/proxy_sets.py --exp exp/asr_digits_train_asr_rnn \\
        --data dump/raw/dev_digits --compression 10 [--json FILE]

Plans of one compression, drawn around the energy order, are scored on all of dev. Half of them
may help to choose a proxy set; Kendall's tau between proxy and dev is that of the other half, the
mean over seeds (which also draw the halves). The speed-up is in audio. Last, what is commonly used
in place of errors: the training losses, on all of dev.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from about import write_result
from scipy import stats
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from espnet_shrink.compat.encoder import encode_batch
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.data.select import METHODS, Candidates, kept_order
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.objectives.greedy import batches
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.plan import dense_plan
from espnet_shrink.search.problem import Problem, fit_to_budget, log_sizes_of
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.space import full_space

SPREAD = 0.3  # of the plans, in log parameters of a site


@torch.no_grad()
def losses(model: Any, data: FeatureSet) -> tuple[float, float]:
    """CTC and attention loss, summed over a set, as ESPnet trains them."""
    total = [0.0, 0.0]
    for batch in batches(data.features):
        encoded, lengths = encode_batch(model, [data.features[i] for i in batch])
        texts = [torch.tensor(data.tokens[i]) for i in batch]
        given = (pad_sequence(texts, batch_first=True, padding_value=-1),
                 torch.tensor([len(text) for text in texts]))  # fmt: skip
        total[0] += float(model._calc_ctc_loss(encoded, lengths, *given)[0]) * len(batch)
        total[1] += float(model._calc_att_loss(encoded, lengths, *given)[0]) * len(batch)
    return total[0], total[1]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--compression", type=float, default=10.0)
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    loaded = open_baseline(args.exp)
    dev = extract(loaded, args.data)
    some = {u.name for u in np.random.default_rng(0).permutation(np.array(dev.utterances))[:100]}
    analysis = analyse(loaded, dev.subset(some), "whitened")
    full = sum(analysis.cost_model.numels.values())
    problem = Problem(analysis.cost_model, full_space(analysis.survey.sites, 4),
                      int(full / args.compression), analysis.energies)  # fmt: skip
    centre = log_sizes_of(problem, energy_order(problem))
    generator = np.random.default_rng(0)
    plans = [fit_to_budget(problem, centre + generator.normal(0, SPREAD, len(centre)))
             for _ in range(args.plans)]  # fmt: skip
    scorer = Scorer(loaded, dev, analysis.decompositions)
    plan_errors, plan_losses = [], []
    for plan in tqdm(plans, "plans on dev", unit="plan"):
        plan_errors.append(scorer.by_utterance(plan))
        small = loaded.copy().model
        factorise(small, plan, factors_of(plan, analysis.decompositions))
        plan_losses.append(losses(small, dev))
    errors, lengths = np.array(plan_errors), np.array([len(f) for f in dev.features])
    baseline = scorer.by_utterance(dense_plan(analysis.survey.sites))
    rows = []
    for size in args.sizes:
        for method in METHODS:
            taus, speedups = [], []
            for seed in range(args.seeds):
                order = np.random.default_rng(seed).permutation(args.plans)
                halves = [Candidates(lengths, baseline, errors[half], np.zeros(len(half), int))
                          for half in np.array_split(order, 2)]  # fmt: skip
                chosen = METHODS[method](halves[0], size, seed)
                taus.append(kept_order(halves[1], chosen))
                speedups.append(lengths.sum() / lengths[chosen].sum())
            half = stats.t.ppf(0.975, len(taus) - 1) * np.std(taus, ddof=1) / len(taus) ** 0.5
            rows.append({"size": size, "method": method, "kendall_tau": float(np.mean(taus)),
                         "interval": float(half), "speedup": float(np.mean(speedups))})  # fmt: skip
    whole = errors.sum(axis=1)
    found = {name: float(stats.kendalltau([pair[i] for pair in plan_losses], whole).statistic)
             for i, name in enumerate(("ctc_loss", "attention_loss"))}  # fmt: skip
    found["their_mean"] = float(stats.kendalltau(np.mean(plan_losses, axis=1), whole).statistic)
    print("|utterances|method|Kendall's tau|speed-up|\n|---:|---|---:|---:|")
    for row in rows:
        print(f"|{row['size']}|{row['method']}|{row['kendall_tau']:.2f} ± {row['interval']:.2f}|"
              f"{row['speedup']:.1f}x|")  # fmt: skip
    for name, tau in found.items():
        print(f"|{len(lengths)}|{name.replace('_', ' ')}|{tau:.2f}|1.0x|")
    write_result(args.json, compression=args.compression, plans=args.plans, seeds=args.seeds,
                 rows=rows, losses=found)  # fmt: skip


if __name__ == "__main__":
    main()
