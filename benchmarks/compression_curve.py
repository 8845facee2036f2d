"""WER against compression, beside small dense models of the same size.

    cd egs2/librispeech/asr_shrink      (after ./run.sh --corpus digits --stop_stage 11)
    python ../../../benchmarks/compression_curve.py --corpus digits \\
        --exp exp/asr_digits_train_asr_rnn [--targets 5 7 10 14] [--json FILE]

EXP is first trained on until it has converged, as rank_search.py does it. From there a model is
factorised once, at ranks that a search of 100 plans has found, and retrained for 2 epochs at a
tenth of that training's rate; the control is retrained in the same way, uncompressed. A small dense
model has the widths of EXP times one factor, so that it has no fewer parameters than the compressed
one, and has gone through all of this training from scratch. All are decoded by ESPnet's stage 12.
Intervals are bootstrap ones over utterances; that of the difference to the control is paired.
Resumes where it was cut off; what is done is kept in EXP_curve.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from about import write_result
from rank_search import FURTHER_EPOCHS, FURTHER_RATE, RETRAIN_EPOCHS, RETRAIN_RATE, converged

from espnet_shrink.compat.models import find_model
from espnet_shrink.compat.tasks import task_of
from espnet_shrink.compat.trainer import train_command, training_config
from espnet_shrink.core.checkpoints import read_checkpoint
from espnet_shrink.core.files import read_yaml, write_atomically, write_text
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.pipeline.rounds import RoundsSettings, run_rounds
from espnet_shrink.report.wer import (
    Scores,
    bootstrap_interval,
    paired_interval,
    score,
)
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.training.espnet2 import retrain, run_trainer
from espnet_shrink.training.learning_rate import start_rate
from espnet_shrink.training.request import TrainingRequest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

WIDTHS = {"encoder_conf": ("hidden_size", "output_size"), "decoder_conf": ("hidden_size",)}


@dataclass(frozen=True)
class Point:
    """One model of the curve; the interval of the difference is against the control."""

    system: str
    target: float
    compression: float
    params: int
    wer_test: float
    interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]


def narrower(config: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The encoder's and decoder's options with all widths times `factor`."""
    changed = {part: dict(config[part]) for part in WIDTHS}
    changed["decoder_conf"]["att_conf"] = dict(config["decoder_conf"]["att_conf"])
    for part, keys in WIDTHS.items():
        for key in keys:
            changed[part][key] = round(changed[part][key] * factor)
    attention = changed["decoder_conf"]["att_conf"]
    attention["adim"] = round(attention["adim"] * factor)
    return changed


def count_params(config: Mapping[str, Any]) -> int:
    """Parameters of the model that a config.yaml describes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(dict(config)))
        builder = task_of(config, path).builder()
        model, _ = builder.build_model_from_file(str(path), None, "cpu")
    return sum(p.numel() for p in model.parameters())


def smallest_with(config: Mapping[str, Any], params: int) -> dict[str, Any]:
    """The narrowest model of at least `params` parameters, as changes of `config`."""
    low, high = 0.0, 1.0
    while high - low > 0.002:
        middle = (low + high) / 2
        enough = count_params({**config, **narrower(config, middle)}) >= params
        low, high = (low, middle) if enough else (middle, high)
    return narrower(config, high)


def trained_on(exp: Path, folder: Path, epochs: int, learning_rate_factor: float) -> Path:
    """The model of `exp`, trained on in `folder`."""
    config, checkpoint = find_model(exp)
    rate = start_rate(config, 0.0, learning_rate_factor, {}).value
    retrain(TrainingRequest(read_yaml(config), read_checkpoint(checkpoint), folder, epochs, rate))
    return folder


class Curve:
    """One baseline and where its relatives are."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work = Path(f"{args.exp}_curve")
        start = Path(f"{args.exp}_rank_search") / "baseline"
        converged(args.exp, start)
        self.baseline = open_baseline(start)
        self.first_config = read_yaml(find_model(args.exp)[0])
        self.full = sum(p.numel() for p in self.baseline.model.parameters())
        self.dev = Path("dump/raw") / f"dev_{args.corpus}"
        self.references = read_table(Path("dump/raw") / f"test_{args.corpus}" / "text")

    def compressed(self, target: float) -> Path:
        """One round."""
        proxy = make_proxy(self.baseline, self.dev, self.work / "proxy", 100, "ordered", 0)
        settings = RoundsSettings(
            target=target, step=target, final_epochs=RETRAIN_EPOCHS,
            learning_rate_factor=RETRAIN_RATE, wer_limit_absolute=100.0, control=False,
        )  # fmt: skip
        out = self.work / f"{target:g}x"
        run_rounds(self.baseline, proxy.folder, self.dev, out, settings, SearchSettings())
        return out / "round1"

    def small_dense(self, target: float, params: int) -> Path:
        """A narrow model of at least `params` parameters, trained from scratch."""
        work = self.work / f"dense_{target:g}x"
        first = work / "first"
        if not (first / ".trained").exists():
            first.mkdir(parents=True, exist_ok=True)
            changes = {**smallest_with(self.first_config, params),
                       "output_dir": str(first), "resume": True}  # fmt: skip
            config = work / "train.yaml"
            write_text(config, yaml.safe_dump(training_config(self.first_config, changes)))
            command = train_command(task_of(self.first_config, config), config)
            run_trainer(command, first, self.first_config["max_epoch"], 0)
            write_text(first / ".trained", "")
        further = trained_on(first, work / "further", FURTHER_EPOCHS, FURTHER_RATE)
        return trained_on(further, work / "last", RETRAIN_EPOCHS, RETRAIN_RATE)

    def decoded(self, exp: Path) -> Scores:
        """Errors on test by ESPnet's beam search."""
        subprocess.run(
            ["./run.sh", "--corpus", self.args.corpus, "--asr_exp", str(exp), "--stage", "12",
             "--stop_stage", "12"], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return score(
            self.references, read_table(exp / "decode_asr" / f"test_{self.args.corpus}" / "text")
        )

    def points(self) -> list[Point]:
        """Train and decode all."""
        start = self.baseline.config.parent
        control = self.decoded(
            trained_on(start, self.work / "control", RETRAIN_EPOCHS, RETRAIN_RATE)
        )

        def point(system: str, target: float, params: int, exp: Path | None) -> Point:
            found = control if exp is None else self.decoded(exp)
            done = Point(
                system, target, self.full / params, params, found.wer,
                bootstrap_interval(found.words), found.wer - control.wer,
                paired_interval(found, control),
            )  # fmt: skip
            print(json.dumps(asdict(done)), flush=True)
            return done

        points = [point("control", 1.0, self.full, None)]
        for target in self.args.targets:
            exp = self.compressed(target)
            params = read_yaml(exp / "round.yaml")["params"]
            points.append(point("compressed", target, params, exp))
            exp = self.small_dense(target, params)
            points.append(
                point("small dense", target, count_params(read_yaml(find_model(exp)[0])), exp)
            )
        return points


def table(points: list[Point]) -> str:
    """As Markdown."""
    lines = ["|system|compression|params (M)|test WER % [95 %]|less control, points [95 %]|",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for p in points:
        low, high = p.interval
        line = f"|{p.system}|{p.compression:.2f}|{p.params / 1e6:.3f}|"
        line += f"{p.wer_test:.2f} [{low:.2f}, {high:.2f}]|"
        low, high = p.difference_interval
        lines.append(line + f"{p.difference:+.2f} [{low:+.2f}, {high:+.2f}]|")
    return "\n".join(lines) + "\n"


def plot(points: list[Point], corpus: str, path: Path) -> None:
    """Test WER against compression."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for system, colour in (("small dense", "tab:grey"), ("compressed", "tab:blue")):
        some = [p for p in points if p.system == system]
        below = [p.wer_test - p.interval[0] for p in some]
        above = [p.interval[1] - p.wer_test for p in some]
        axes.errorbar([p.compression for p in some], [p.wer_test for p in some], [below, above],
                      label=system, capsize=3, marker="o", color=colour)  # fmt: skip
    control = points[0]
    axes.axhline(control.wer_test, color="black", linestyle=":", label="uncompressed")
    axes.axhspan(*control.interval, color="black", alpha=0.08)
    axes.set(xlabel="compression (parameters before / after)", ylabel="test WER, %", ylim=(0, None))
    axes.set_title(f"{corpus}: the same epochs for all")
    axes.legend()
    with write_atomically(path) as beside:
        figure.savefig(beside, dpi=120)
    plt.close(figure)


def main() -> None:
    """Train, decode, write JSON, a table and a plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--corpus", choices=["digits", "mini"], required=True)
    parser.add_argument("--targets", type=float, nargs="+", default=[5.0, 7.0, 10.0, 14.0])
    parser.add_argument("--json", type=Path, help="by default compression_curve_CORPUS.json, here")
    args = parser.parse_args()
    path = args.json or Path(f"compression_curve_{args.corpus}.json")
    points = Curve(args).points()
    write_text(path.with_suffix(".md"), table(points))
    plot(points, args.corpus, path.with_suffix(".png"))
    write_result(path, corpus=args.corpus, rows=[asdict(p) for p in points])
    print(table(points))


if __name__ == "__main__":
    main()
