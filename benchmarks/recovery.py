"""Whether a short fine-tune of every candidate would put plans in a better order.

    cd egs2/librispeech/asr_shrink      (after rank_search.py with --retrained_seeds 1)
    python ../../../benchmarks/recovery.py --corpus digits --exp exp/asr_digits_train_asr_rnn

HAQ (1811.08886) fine-tunes a candidate before it is scored. Here the plans that rank_search.py
chose and retrained are scored on dev as factorised, after a fine-tune of a few updates, and after
the whole retraining. What counts is Kendall's tau with the last, by ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from about import write_result
from rank_search import RETRAIN_RATE
from rank_search_rows import SEARCHERS
from retrained import retrained
from scipy.stats import kendalltau

from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.plan import Plan

UPDATES = 20


def errors(loaded: LoadedModel, dev: FeatureSet) -> float:
    """On dev, in percent."""
    return Scorer(loaded, dev).score().errors


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--corpus", required=True, help="of dump/raw/dev_CORPUS")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    work = Path(f"{args.exp}_rank_search")
    base = open_baseline(work / "baseline")
    dev = extract(base, Path("dump/raw") / f"dev_{args.corpus}")
    proxy = extract(base, work / "seed0" / "proxy")
    found = {way: analyse(base, proxy, way).decompositions for way in ("whitened", "plain")}
    # rank_search.py's folder of a row -> how its weights were decomposed
    decompositions = {name.replace(" ", "_"): row.decomposition for name, row in SEARCHERS.items()}
    rows: list[dict[str, Any]] = []
    for done in sorted(work.glob("seed0/searchers/*/*/retrained/.trained")):
        folder = done.parent.parent
        plan = Plan.load(folder / "plan.yaml")
        small = base.copy()
        factorise(small.model, plan, factors_of(plan, found[decompositions[folder.name]]))
        start = time.perf_counter()
        before = errors(small, dev)
        score_s = time.perf_counter() - start
        start = time.perf_counter()
        recovered = retrained(base, small, folder / "recovered", 1, RETRAIN_RATE,
                              num_iters_per_epoch=UPDATES)  # fmt: skip
        recovery_s = time.perf_counter() - start
        row = {
            "searcher": folder.name, "ratio": float(folder.parent.name[:-1]), "before": before,
            "after_recovery": errors(recovered, dev),
            "after_retraining": errors(load_model(*find_model(folder / "retrained")), dev),
            "score_s": score_s, "recovery_s": recovery_s,
        }  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    print("|ratio|plans|tau as factorised|tau after recovery|\n|---:|---:|---:|---:|")
    taus = []
    for ratio in sorted({r["ratio"] for r in rows}):
        some = [r for r in rows if r["ratio"] == ratio]
        after = [r["after_retraining"] for r in some]
        tau = {name: float(kendalltau([r[name] for r in some], after).statistic)
               for name in ("before", "after_recovery")}  # fmt: skip
        taus.append({"ratio": ratio, "plans": len(some), **tau})
        print(f"|{ratio:g}x|{len(some)}|{tau['before']:.2f}|{tau['after_recovery']:.2f}|")
    write_result(args.json, corpus=args.corpus, updates=UPDATES, taus=taus, rows=rows)


if __name__ == "__main__":
    main()
