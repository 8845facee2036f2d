"""Whitening by training audio against whitening by the proxy set itself: errors, as factorised.

    cd egs2/librispeech/asr_shrink      (after ./run.sh --corpus mini --stop_stage 11)
    python ../../../benchmarks/moments.py --exp exp/asr_mini_train_asr_rnn --corpus mini

The ranks are those of the energy order over each way's own spectra. Errors are of greedy decoding,
the mean over the model's decoders, on the proxy set, on dev and on test; proxy sets are random, one
a seed, and as many training utterances are heard.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from about import write_result
from tqdm import tqdm

from espnet_shrink.data.features import extract, extract_all
from espnet_shrink.data.moment_data import training_recordings
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space

MIN_RANK = 4


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--checkpoint", help="file name in EXP")
    parser.add_argument("--corpus", required=True, help="of dump/raw/{dev,test}_CORPUS")
    parser.add_argument("--ratios", type=float, nargs="+", default=[4.0, 8.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=100, help="utterances of a proxy set")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    loaded = open_baseline(args.exp, args.checkpoint)
    dev, test = (extract(loaded, Path("dump/raw") / f"{n}_{args.corpus}") for n in ("dev", "test"))
    rows = []
    for seed in tqdm(range(args.seeds), "seeds", unit="seed"):
        names = sorted(u.name for u in dev.utterances)
        proxy = dev.subset(set(names[seed :: max(1, len(names) // args.size)]))
        settings = SearchSettings(seed=seed)
        recordings = training_recordings(loaded, {}, len(proxy.utterances), settings)
        heard = extract_all(loaded, recordings)
        for way, by in (("proxy", None), ("training", heard)):
            analysis = analyse(loaded, proxy, "whitened", by)
            full = sum(analysis.cost_model.numels.values())
            space = full_space(analysis.survey.sites, MIN_RANK)
            for ratio in args.ratios:
                problem = Problem(analysis.cost_model, space, int(full / ratio), analysis.energies)
                plan = energy_order(problem)
                errors = {
                    name: Scorer(loaded, data, analysis.decompositions).score(plan).errors
                    for name, data in (("proxy", proxy), ("dev", dev), ("test", test))
                }
                rows.append({"moments": way, "ratio": ratio, "seed": seed, **errors})
    print("|moments of|ratio|seed|proxy set|dev|test|\n|---|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = (f"{v:.2f}" if isinstance(v, float) else f"{v}" for v in row.values())
        print("|" + "|".join(cells) + "|")
    write_result(args.json, corpus=args.corpus, rows=rows)


if __name__ == "__main__":
    main()
