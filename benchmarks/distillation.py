"""What a teacher is worth in retraining: test WER by loss, without labels, and of controls.

    cd egs2/librispeech/asr_shrink
    python ../../../benchmarks/distillation.py --json distillation_mini.json

Trains the teacher first, if it is not there: the demo's model, with 24 epochs instead of 9, as a
published model has converged (--exp exp/asr_mini_train_asr_rnn is the demo's own). Two hours on 2
cores in all, one training on each core at a time; it resumes. For every seed a proxy set is chosen
and ranks are searched once for every compression; all systems retrain that same plan, for the same
number of epochs and from the same rate. WER is of greedy decoding, the mean of CTC and attention:
of dev, by which defaults are chosen, and of test, scored once after everything is trained.
Differences to plain retraining have 95 % intervals of a paired bootstrap over the test set's
speakers.

What the KL on a transducer's lattice is worth is asked of a transducer, in half an hour; its loss
ESPnet takes from warprnnt_pytorch, for which the tests have a stand-in over torchaudio's:

    export PYTHONPATH=$PWD/../../../tests/stand_ins
    ./run.sh --corpus mini --stop_stage 11 \\
        --asr_config ../../../benchmarks/train_asr_transducer_mini.yaml
    python ../../../benchmarks/distillation.py --exp exp/asr_mini_train_asr_transducer_mini \
        --systems plain "CTC KL" "transducer KL" "transducer KL and CTC KL" --controls \
        --compressions 5 --json distillation_transducer_mini.json
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import re
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from about import write_result
from tqdm import tqdm

from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.data.training_data import training_data
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.pseudo_labels import pseudo_labelled
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.pipeline.search import search_ranks
from espnet_shrink.pipeline.space import space_for
from espnet_shrink.plan import Plan
from espnet_shrink.report.wer import score
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.training.espnet2 import retrain
from espnet_shrink.training.extras.distil import Distil, teacher_extra
from espnet_shrink.training.learning_rate import start_rate
from espnet_shrink.training.request import TrainingRequest
from espnet_shrink.training.trained import MARK

RATE_FACTOR = 0.5  # as the rounds preset
MSE = 0.05  # a sum over frames and channels, far larger than the other losses
KL = Distil(token_kl=1.0, ctc_kl=1.0)
ALL = dataclasses.replace(KL, encoder_mse=MSE)
MASKS = {"specaug": "specaug", "specaug_conf": {
    "apply_time_warp": False,
    "apply_freq_mask": True, "freq_mask_width_range": [0, 15], "num_freq_mask": 2,
    "apply_time_mask": True, "time_mask_width_range": [0, 20], "num_time_mask": 2,
}}  # fmt: skip
CONVERGED_EPOCHS = 24
CONTROL = 1.0  # compression of what is not compressed
RESAMPLES = 10_000


@dataclass(frozen=True)
class System:
    """One way to retrain.

    Attributes:
        distil: what the teacher teaches.
        unlabelled: texts are its own.
        masks: SpecAugment, which the demo's model is trained without; at the first compression.
    """

    distil: Distil
    unlabelled: bool = False
    masks: bool = False


SYSTEMS = {
    "plain": System(Distil()),
    "token KL": System(Distil(token_kl=1.0)),
    "CTC KL": System(Distil(ctc_kl=1.0)),
    "encoder MSE": System(Distil(encoder_mse=MSE)),
    "all": System(ALL),
    "masked input": System(Distil(), masks=True),
    "masked input, all": System(ALL, masks=True),
    "masked input, all, the teacher's clean": System(
        dataclasses.replace(ALL, input="clean"), masks=True
    ),
    "unlabelled, its texts": System(Distil(), unlabelled=True),
    "unlabelled, its texts and KL": System(KL, unlabelled=True),
    "transducer KL": System(Distil(transducer_kl=1.0)),
    "transducer KL and CTC KL": System(Distil(transducer_kl=1.0, ctc_kl=1.0)),
}
FOR_TRANSDUCERS = ["transducer KL", "transducer KL and CTC KL"]
CONTROLS = {"control": System(Distil()), "control with teacher": System(ALL)}


@dataclass(frozen=True)
class Bench:
    """Folders and settings."""

    exp: Path
    corpus: str
    work: Path
    epochs: int
    evaluations: int

    def data(self, name: str) -> Path:
        """A set of the corpus."""
        return Path("dump/raw") / f"{name}_{self.corpus}"

    def folder(self, system: str, compression: float, seed: int) -> Path:
        """An experiment folder."""
        named = re.sub(r"\W+", "_", system)
        return self.work / f"seed{seed}" / f"{compression:g}x" / named

    def plan(self, base: LoadedModel, compression: float, seed: int) -> Plan:
        """Of one search; resumes, or only reads it."""
        own = self.work / f"seed{seed}"
        settings = SearchSettings(evaluations=self.evaluations, seed=seed)
        make_proxy(base, self.data("dev"), own / "proxy", 100, "ordered", seed)
        found = search_ranks(
            base, own / "proxy", self.data("dev"), space_for(base, None, settings), settings,
            int(base.params / compression), own / f"{compression:g}x" / "search",
        )  # fmt: skip
        return found.plan

    def train(self, name: str, compression: float, seed: int) -> None:
        """Retrain one system."""
        system = {**SYSTEMS, **CONTROLS}[name]
        base = open_baseline(self.exp)
        small, changes = base.copy(), {"seed": seed}
        if compression != CONTROL:
            plan = self.plan(base, compression, seed)
            proxy = extract(base, self.work / f"seed{seed}" / "proxy")
            analyse(base, proxy, "whitened").compressor.put(small.model, plan)
            changes |= adapter_config(adapter_conf(plan, base.hash))
        if system.masks:
            changes |= MASKS
        if system.unlabelled:
            given = training_data(base, self.work / "unlabelled" / "train", self.data("dev"), {})
            changes |= given.write(self.work / "unlabelled" / "shapes")
        rate = start_rate(base.config, 0.0, RATE_FACTOR, {}).value
        retrain(TrainingRequest(
            base.described, small.model.state_dict(), self.folder(name, compression, seed),
            self.epochs, rate, changes=changes, extras=teacher_extra(system.distil, base),
        ))  # fmt: skip

    def score(self, name: str, compression: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """`errors` of a system on dev and on test."""
        trained = load_model(*find_model(self.folder(name, compression, seed)))
        return errors(trained, self.data("dev")), errors(trained, self.data("test"))


def pin(cores: Any) -> None:
    """Give this process a core of its own, and so whatever it starts."""
    os.sched_setaffinity(0, {cores.get()})
    torch.set_num_threads(1)


def side_by_side(calls: list[tuple[Any, ...]], description: str) -> list[Any]:
    """What function(*arguments) gives for all of `calls`, as many at a time as there are cores."""
    spawn = multiprocessing.get_context("spawn")
    cores, available = spawn.Queue(), sorted(os.sched_getaffinity(0))
    for core in available:
        cores.put(core)
    with ProcessPoolExecutor(len(available), spawn, pin, (cores,)) as pool:
        futures = [pool.submit(*call) for call in calls]
        return [future.result() for future in tqdm(futures, description)]


def errors(loaded: LoadedModel, data: Path) -> np.ndarray:
    """(utterances, 2): wrong words, the mean over decoders, and words of every utterance, by id."""
    features = extract(loaded, data)
    references = read_table(data / "text")
    texts = scored_texts(loaded.described, loaded.config)
    names = [u.name for u in features.utterances]
    found = [
        score(references, dict(zip(names, said, strict=True)), texts, "wer").words
        for said in Scorer(loaded, features).hypotheses().values()
    ]
    return np.stack([np.mean([f.errors for f in found], axis=0), found[0].lengths], axis=1)


def wer(counted: np.ndarray) -> float:
    """Percent, of what `errors` gives."""
    return float(100 * counted[:, 0].sum() / counted[:, 1].sum())


def difference(ours: np.ndarray, plain: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """Points of WER that `ours` has more than `plain`, with a bootstrap interval over speakers."""
    groups = np.unique(speakers)
    wrong = np.array([(ours - plain)[speakers == g, 0].sum() for g in groups])
    words = np.array([plain[speakers == g, 1].sum() for g in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    points = 100 * wrong[drawn].sum(1) / words[drawn].sum(1)
    low, high = np.percentile(points, [2.5, 97.5])
    return {
        "points": float(100 * wrong.sum() / words.sum()),
        "low": float(low),
        "high": float(high),
    }


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, help="baseline; by default one is trained")
    parser.add_argument("--corpus", default="mini", help="of dump/raw/{train,dev,test}_CORPUS")
    parser.add_argument("--compressions", type=float, nargs="+", default=[5.0, 10.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=list(SYSTEMS),
        default=[name for name in SYSTEMS if name not in FOR_TRANSDUCERS],
    )
    parser.add_argument("--controls", nargs="*", choices=list(CONTROLS), default=list(CONTROLS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--so_far", action="store_true", help="score what is trained already")
    args = parser.parse_args()
    if args.exp is None:
        args.exp = Path(f"exp/asr_{args.corpus}_converged")
        subprocess.run(
            ["./run.sh", "--corpus", args.corpus, "--stop_stage", "11", "--asr_exp",
             str(args.exp), "--asr_args", f"--max_epoch {CONVERGED_EPOCHS}"], check=True,
        )  # fmt: skip
    work = Path(f"{args.exp}_distillation")
    bench = Bench(args.exp, args.corpus, work, args.epochs, args.evaluations)
    base = open_baseline(args.exp)
    pseudo_labelled(Heard(base, bench.data("dev")), bench.data("train"), work / "unlabelled")
    seeds = range(args.seeds)
    side_by_side([(searched, bench, args.compressions, seed) for seed in seeds], "searches")
    # What matters most comes first: a run may be cut off.
    mildest, *others = args.compressions
    masked = [name for name in args.systems if SYSTEMS[name].masks]
    plain = [name for name in args.systems if name not in masked]
    wanted = [
        each for seed in seeds
        for each in [(name, mildest, seed) for name in plain]
        + [(name, CONTROL, seed) for name in args.controls]
    ]  # fmt: skip
    wanted += [(name, c, seed) for seed in seeds for c in others for name in plain]
    wanted += [(name, mildest, seed) for seed in seeds for name in masked]
    if args.so_far:
        lacking = [each for each in wanted if not (bench.folder(*each) / MARK).exists()]
        wanted = [each for each in wanted if each not in lacking]
        print(f"not trained yet: {', '.join(map(str, lacking)) or 'nothing'}")
    else:
        side_by_side([(bench.train, *which) for which in wanted], "trainings")
    speakers = speakers_of(bench.data("test"))
    scored = side_by_side([(bench.score, *which) for which in wanted], "scoring")
    wers_dev = {which: wer(dev) for which, (dev, _) in zip(wanted, scored, strict=True)}
    counts = {which: test for which, (_, test) in zip(wanted, scored, strict=True)}
    rows: list[dict[str, Any]] = []
    for (name, compression, seed), found in counts.items():
        first = "control" if compression == CONTROL else "plain"
        row = {
            "system": name, "compression": compression, "seed": seed, "epochs": args.epochs,
            "wer_dev": wers_dev[name, compression, seed], "wer_test": wer(found),
        }  # fmt: skip
        if name != first and (first, compression, seed) in counts:
            row["against_plain"] = difference(found, counts[first, compression, seed], speakers)
        rows.append(row)
    baseline = {part: wer(errors(base, bench.data(part))) for part in ("dev", "test")}
    write_result(
        args.json, corpus=args.corpus, baseline_wer_dev=baseline["dev"],
        baseline_wer_test=baseline["test"], rows=rows,
    )  # fmt: skip
    print(table(rows, baseline))


def searched(bench: Bench, compressions: list[float], seed: int) -> None:
    """All plans of a seed."""
    base = open_baseline(bench.exp)
    for compression in compressions:
        bench.plan(base, compression, seed)


def speakers_of(data: Path) -> np.ndarray:
    """Of every utterance, in the order of their ids."""
    return np.array([speaker for _, speaker in sorted(read_table(data / "utt2spk").items())])


def table(rows: list[dict[str, Any]], baseline: dict[str, float]) -> str:
    """Means over seeds."""
    lines = [
        f"baseline: dev WER {baseline['dev']:.2f}, test WER {baseline['test']:.2f}", "",
        "|system|compression|dev WER %|test WER %|test, by seed|", "|---|---:|---:|---:|---|",
    ]  # fmt: skip
    for name, compression in dict.fromkeys((r["system"], r["compression"]) for r in rows):
        own = [r for r in rows if (r["system"], r["compression"]) == (name, compression)]
        dev, test = (np.mean([r[f"wer_{part}"] for r in own]) for part in ("dev", "test"))
        each = ", ".join(f"{r['wer_test']:.2f}" for r in own)
        lines.append(f"|{name}|{compression:g}x|{dev:.2f}|{test:.2f}|{each}|")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
