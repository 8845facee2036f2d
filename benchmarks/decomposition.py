"""Ways to decompose, at the same ranks: test WER as factorised, and after one retraining.

    cd egs2/librispeech/asr_shrink      (after ./run.sh --corpus digits --stop_stage 11)
    python ../../../benchmarks/decomposition.py --exp exp/asr_digits_train_asr_rnn \\
        --corpus digits --ratios 6 10 14 [--json FILE]

The ranks are those of the energy order over whitened spectra; "joint" spends the parameters of an
LSTM's pair of matrices on one rank. Moments and gradients are of proxy sets, one a seed; WER is of
greedy decoding, the mean over the model's decoders. Retraining is the same for all, of the first
seed; the ways are not chosen by test, they are compared. decompositions.py says what they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from about import write_result
from decompositions import WAYS, Materials
from rank_search_tables import mean_interval
from retrained import retrained
from tqdm import tqdm

from espnet_shrink.data.features import extract
from espnet_shrink.methods.lowrank.analysis import analyse, observe
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.space import full_space

LEARNING_RATE_FACTOR = 0.5
MIN_RANK = 4
UNSHARED = "joint"  # our layers would train its shared factor apart


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--corpus", required=True, help="of dump/raw/{dev,test}_CORPUS")
    parser.add_argument("--ratios", type=float, nargs="+", default=[6.0, 10.0, 14.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retrained_ratio", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    loaded, raw = open_baseline(args.exp), Path("dump/raw")
    work = Path(f"{args.exp}_decomposition")
    test = extract(loaded, raw / f"test_{args.corpus}")
    baseline = Scorer(loaded, test).score()
    rows = []
    for seed in range(args.seeds):
        folder = make_proxy(
            loaded, raw / f"dev_{args.corpus}", work / f"proxy{seed}", 100, "ordered", seed
        ).folder
        proxy = extract(loaded, folder)
        analysis = analyse(loaded, proxy, "whitened")
        seen = observe(loaded, analysis.survey, proxy, of_outputs=False)
        full = sum(analysis.cost_model.numels.values())
        space = full_space(analysis.survey.sites, MIN_RANK)
        for ratio in args.ratios:
            problem = Problem(analysis.cost_model, space, int(full / ratio), analysis.energies)
            given = Materials(loaded, analysis.survey, seen, proxy, energy_order(problem))
            for name, way in tqdm(WAYS.items(), f"seed {seed}, {ratio:g}x", unit="way"):
                found = way(given)
                score = Scorer(found.loaded, test).score()
                row = {"way": name, "ratio": ratio, "seed": seed,
                       "compression": full / found.params, "wer_test": score.wer,
                       "cer_test": score.cer, "wer_test_retrained": None}  # fmt: skip
                if seed == 0 and ratio == args.retrained_ratio and name != UNSHARED:
                    after = retrained(loaded, found.loaded, work / name, 1, LEARNING_RATE_FACTOR)
                    row["wer_test_retrained"] = Scorer(after, test).score().wer
                rows.append(row)
    heads = [f"{ratio:g}x" for ratio in args.ratios]
    print(f"uncompressed: test WER {baseline.wer:.2f}\n")
    print("|way|" + "|".join(heads) + f"|{args.retrained_ratio:g}x retrained|")
    print("|---|" + "---:|" * (len(heads) + 1))
    for name in WAYS:
        cells = []
        for ratio in args.ratios:
            values = [r["wer_test"] for r in rows if (r["way"], r["ratio"]) == (name, ratio)]
            cells.append("{:.2f} ± {:.2f}".format(*mean_interval(values)))
        after = [r["wer_test_retrained"] for r in rows
                 if r["way"] == name and r["wer_test_retrained"] is not None]  # fmt: skip
        cells.append(f"{after[0]:.2f}" if after else "-")
        print(f"|{name}|" + "|".join(cells) + "|")
    write_result(args.json, baseline_wer=baseline.wer, corpus=args.corpus, rows=rows)


if __name__ == "__main__":
    main()
