"""Every searcher on the same model, with the same budget and the same number of proxy scores.

    cd egs2/librispeech/asr_shrink
    python ../../../benchmarks/rank_search.py --corpus digits --digits_dir DIR

`--table devices` compares REINFORCE with itself less one of its devices, `--table rewards` its
rewards, `--table spaces` search spaces that a scan of every site has narrowed.

Trains the recipe's baseline if it is not there, and then 8 epochs more, so that it has converged.
A seed chooses the proxy set (from dev) and the random numbers of a search. The best plans of every
search are scored again on all of dev; the plan chosen there is scored on test once, as factorised
and, for the first seeds, after one retraining that is the same for all. WER is of greedy decoding,
the mean over the model's decoders, as in the search. Seeds run side by side, one on every core.
Resumes where it was cut off; what is done is kept in EXP_rank_search. Writes JSON, and a table and
a plot beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from about import write_result
from rank_search_rows import TABLES, Row
from rank_search_tables import write_tables
from retrained import retrained

from espnet_shrink.core.files import read_yaml, write_text
from espnet_shrink.core.weights import model_hash
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.methods.lowrank.analysis import Analysis, analyse
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.objectives.score import Score, Scorer, errors
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.plan import Plan
from espnet_shrink.search.evaluate import ScoreAll
from espnet_shrink.search.finalists import choose
from espnet_shrink.search.loop import run_search
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers import reinforce
from espnet_shrink.search.settings import SEARCHERS, SearchSettings
from espnet_shrink.search.space import full_space
from espnet_shrink.training.espnet2 import retrain
from espnet_shrink.training.learning_rate import start_rate
from espnet_shrink.training.request import TrainingRequest

FURTHER_EPOCHS, FURTHER_RATE = 8, 0.5  # times the learning rate of the training before
RETRAIN_EPOCHS, RETRAIN_RATE = 2, 0.1  # times that again
SETTINGS = ("evaluations", "proxy_size", "retrain_epochs")  # that one row shares with the next


def wers(scorer: Scorer, plan: Plan | None = None) -> dict[str, float]:
    """WER by decoder."""
    texts = scorer.hypotheses(plan)
    return {name: errors(scorer.data.references, found).wer for name, found in texts.items()}


def mean(by_decoder: dict[str, float]) -> float:
    """One figure of several decoders."""
    return statistics.mean(by_decoder.values())


def converged(exp: Path, folder: Path) -> None:
    """Train the model of `exp` further."""
    start = open_baseline(exp)
    rate = start_rate(start.config, 0.0, FURTHER_RATE, {}).value
    state = start.model.state_dict()
    retrain(TrainingRequest(read_yaml(start.config), state, folder, FURTHER_EPOCHS, rate))


class Bench:
    """One baseline, one seed, and what has been found so far."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed = args, seed
        self.work = work_folder(args)
        self.loaded = open_baseline(baseline_folder(args))
        self.dev_folder = Path("dump/raw") / f"dev_{args.corpus}"
        self.dev = extract(self.loaded, self.dev_folder)
        self.test = extract(self.loaded, Path("dump/raw") / f"test_{args.corpus}")
        self.full = sum(p.numel() for p in self.loaded.model.parameters())
        self.base_hash = model_hash(self.loaded.model)
        self.record = self.work / f"seed{seed}" / args.table / "rows.json"
        self.rows: list[dict[str, Any]] = []
        if self.record.exists():
            before = json.loads(self.record.read_text())
            if before["base_hash"] != self.base_hash or before["settings"] != self._settings():
                raise SystemExit(f"{self.record} is of another baseline or settings: remove it")
            self.rows = before["rows"]

    def run(self) -> list[dict[str, Any]]:
        """Every ratio and entry; the rows."""
        proxy = make_proxy(
            self.loaded, self.dev_folder, self.work / f"seed{self.seed}" / "proxy",
            self.args.proxy_size, "ordered", self.seed,
        )  # fmt: skip
        features = extract(self.loaded, proxy.folder)
        for decomposition in ("whitened", "plain"):
            rows = [TABLES[self.args.table][name] for name in self.args.rows]
            if any(row.decomposition == decomposition for row in rows):
                self._compare(features, decomposition)
        return self.rows

    def _compare(self, proxy: FeatureSet, decomposition: str) -> None:
        analysis = analyse(self.loaded, proxy, decomposition)
        scored = Scorer(self.loaded, proxy, analysis.decompositions)
        again = Scorer(self.loaded, self.dev, analysis.decompositions)
        tested = Scorer(self.loaded, self.test, analysis.decompositions)
        known: dict[str, Score] = {}

        def score_all(plans: Sequence[Plan]) -> Iterator[Score]:
            for plan in plans:  # what one searcher has scored is not scored for another
                if plan.hash not in known:
                    known[plan.hash] = scored.score(plan)
                yield known[plan.hash]

        for ratio in self.args.ratios:
            for name in self.args.rows:
                row = TABLES[self.args.table][name]
                if row.decomposition == decomposition:
                    self._row(ratio, name, row, analysis, score_all, again, tested)

    def _row(
        self,
        ratio: float,
        name: str,
        entry: Row,
        analysis: Analysis,
        score_all: ScoreAll,
        again: Scorer,
        tested: Scorer,
    ) -> None:
        key = {"searcher": name, "ratio": ratio, "seed": self.seed}
        row = next((r for r in self.rows if key.items() <= r.items()), None)
        folder = self.record.parent / f"{ratio:g}x" / name.replace(" ", "_")
        known = entry.searcher in SEARCHERS
        settings = SearchSettings(
            **{"seed": self.seed, "evaluations": self.args.evaluations,
               "searcher": entry.searcher if known else "random", **entry.settings}
        )  # fmt: skip
        search = None if known else importlib.import_module(entry.searcher).search
        if row is None:
            space = full_space(analysis.survey.sites, settings.min_rank)
            problem = Problem(analysis.cost_model, space, int(self.full / ratio),
                              analysis.energies, multiple=settings.rank_multiple,
                              loss_changes=lambda: analysis.loss_changes)  # fmt: skip
            with contextlib.ExitStack() as changed:
                for constant, value in entry.constants.items():
                    changed.enter_context(mock.patch.object(reinforce, constant, value))
                result = run_search(problem, score_all, settings, folder, search=search)
            best, on_dev = choose(result, settings.finalists, again.score, folder)
            best.plan.save(folder / "plan.yaml", base_hash=self.base_hash)
            by_decoder = wers(tested, best.plan)
            row = {
                **key, "compression": self.full / best.params, "wer_proxy": best.score.wer,
                "errors_proxy": best.score.errors, "errors_dev": on_dev.errors,
                "wer_test": mean(by_decoder), "wer_test_by_decoder": by_decoder,
                "wer_test_retrained": None, "evaluations": len(result.trials),
            }  # fmt: skip
            self.rows.append(row)
            self._save()
        if row["wer_test_retrained"] is None and self.seed < self.args.retrained_seeds:
            row["wer_test_retrained"] = self._retrained(folder, analysis)
            self._save()
        print(json.dumps(row), flush=True)

    def _retrained(self, folder: Path, analysis: Analysis) -> float:
        plan, small = Plan.load(folder / "plan.yaml"), self.loaded.copy()
        factorise(small.model, plan, factors_of(plan, analysis.decompositions))
        after = retrained(
            self.loaded, small, folder / "retrained", self.args.retrain_epochs, RETRAIN_RATE
        )
        return mean(wers(Scorer(after, self.test)))

    def _settings(self) -> dict[str, int]:
        return {name: getattr(self.args, name) for name in SETTINGS}

    def _save(self) -> None:
        document = {"base_hash": self.base_hash, "settings": self._settings(), "rows": self.rows}
        write_text(self.record, json.dumps(document, indent=1) + "\n")


def work_folder(args: argparse.Namespace) -> Path:
    """Where what is done is kept."""
    return Path(f"{args.exp or default_exp(args.corpus)}_rank_search")


def baseline_folder(args: argparse.Namespace) -> Path:
    """The model that is compressed."""
    return args.exp or work_folder(args) / "baseline"


def default_exp(corpus: str) -> Path:
    """Where the recipe trains."""
    return Path(f"exp/asr_{corpus}_train_asr_rnn")


def pin(cores: Any) -> None:
    """Give this process a core of its own, and so whatever it starts."""
    os.sched_setaffinity(0, {cores.get()})
    torch.set_num_threads(1)


def rows_of(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Run one seed."""
    return Bench(args, seed).run()


def run_seeds(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All seeds, as many at a time as there are cores."""
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    available = os.sched_getaffinity(0)
    for core in sorted(available):
        cores.put(core)
    with ProcessPoolExecutor(min(args.seeds, len(available)), spawn, pin, (cores,)) as pool:
        found = pool.map(rows_of, [args] * args.seeds, range(args.seeds))
        return [row for rows in found for row in rows]


def main() -> None:
    """Make the baseline, run, write tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", choices=["digits", "mini"], required=True)
    parser.add_argument("--digits_dir", help="recordings, as of run.sh")
    parser.add_argument("--exp", type=Path, help="baseline, used as it is; by default the recipe's")
    parser.add_argument("--ratios", type=float, nargs="+", default=[6.0, 10.0, 14.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=300, help="proxy scores per search")
    parser.add_argument("--proxy_size", type=int, default=100)
    parser.add_argument("--table", choices=TABLES, default="searchers", help="what is compared")
    parser.add_argument("--rows", nargs="+", help="of the table; by default all")
    parser.add_argument("--retrained_seeds", type=int, default=1)
    parser.add_argument("--retrain_epochs", type=int, default=RETRAIN_EPOCHS)
    parser.add_argument("--json", type=Path, help="by default rank_search_CORPUS.json, here")
    args = parser.parse_args()
    table = TABLES[args.table]
    args.rows = args.rows or list(table)
    if not set(args.rows) <= set(table):
        parser.error(f"--rows: choose of {', '.join(table)}")
    if "ppo" in args.rows and importlib.util.find_spec("stable_baselines3") is None:
        parser.error("ppo needs: pip install stable-baselines3 (or leave it out of --rows)")
    which = "" if args.table == "searchers" else f"_{args.table}"
    args.json = args.json or Path(f"rank_search_{args.corpus}{which}.json")
    if args.exp is None:
        digits = ["--digits_dir", args.digits_dir] if args.digits_dir else []
        subprocess.run(
            ["./run.sh", "--corpus", args.corpus, *digits, "--stop_stage", "11"], check=True
        )
        converged(default_exp(args.corpus), baseline_folder(args))
    rows = run_seeds(args)
    model = open_baseline(baseline_folder(args))
    baseline = wers(Scorer(model, extract(model, Path("dump/raw") / f"test_{args.corpus}")))
    write_result(
        args.json, baseline_wer=mean(baseline), baseline_wer_by_decoder=baseline,
        decoder="greedy, mean of " + " and ".join(baseline), corpus=args.corpus,
        params=sum(p.numel() for p in model.model.parameters()), evaluations=args.evaluations,
        proxy_size=args.proxy_size, retrain_epochs=args.retrain_epochs,
        base_hash=model_hash(model.model), rows=rows,
    )  # fmt: skip
    print(write_tables(args.json))


if __name__ == "__main__":
    main()
