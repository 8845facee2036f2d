"""Gather results.json from what the rounds and the decoding left on disk."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from espnet_shrink.compat.models import espnet_version, find_model, load_model
from espnet_shrink.compat.references import ScoredTexts, scored_texts
from espnet_shrink.compat.trainer import planned_epochs, trained_epochs
from espnet_shrink.core.files import read_yaml, sha256
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.data.metric import Metric
from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers.quantised import quantised_sizes
from espnet_shrink.report import results as schema
from espnet_shrink.report.onnx_rows import read_rows
from espnet_shrink.report.version1 import scores_of
from espnet_shrink.report.wer import Scores, bootstrap_interval, score
from espnet_shrink.version import __version__

# Of the inference tags under which the recipe decodes the quantised model, and each round as it
# was factorised.
INT8_SUFFIX, BEFORE_SUFFIX = "_int8", "_before_retraining"
INT8 = "int8 (torch)"
SIZE = r"(\d+(?:\.\d+)?)x"
RTF = r"RTF:\s*([\d.]+(?:[eE][-+]?\d+)?)"


@dataclass(frozen=True)
class Sources:
    """Where to look.

    Attributes:
        exp: the baseline's experiment folder.
        out: the folder that results.json goes to.
        data_root: holds SET/text, the references (dump/raw).
        test_sets: sets that were decoded.
        inference_tag: EXP/`inference_tag`/SET/text are the hypotheses.
        corpus, commands: for the record.
        runs: the folders of the rounds, one for every size, in any order; by default `out`.
    """

    exp: Path
    out: Path
    data_root: Path
    test_sets: Sequence[str]
    inference_tag: str
    corpus: str
    commands: Sequence[str]
    runs: Sequence[Path] = ()


def run_folders(out: Path) -> list[Path]:
    """The folders of the rounds in `out`: `out`/2x, `out`/3x, ..., or `out` itself."""
    found = [path.parent for path in out.glob("*/settings.yaml")]
    return sorted(path for path in found if re.fullmatch(SIZE, path.name)) or [out]


@dataclass(frozen=True)
class _Run:
    """The folder of the rounds towards one size, with its settings.yaml and rounds.yaml."""

    folder: Path
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Scoring:
    """How hypotheses are found and scored.

    Attributes:
        metric: the error rate that decided in the rounds.
        texts: what is done to texts of the model before.
        data_root, sets, inference_tag: as in `Sources`.
    """

    metric: Metric
    texts: ScoredTexts
    data_root: Path
    sets: Sequence[str]
    inference_tag: str

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is counted: no words, where texts have none."""
        return ("cer",) if self.metric == "cer" else ("wer", "cer")


def collect(sources: Sources) -> schema.Results:
    """Read rounds, hypotheses and real-time factors of every size, and score them.

    A real-time factor that was not measured, and a form of a final model that was not decoded,
    are left out. A size without an accepted round has no final model.

    Raises:
        ShrinkError: a round or its hypotheses are missing; the file is named. Or the runs are of
            different models, or of the same size.
    """
    out, runs = sources.out, _runs(sources.runs or (sources.out,))
    shared = runs[0].summary
    scoring = Scoring(
        "cer" if shared.get("metric") == "cer" else "wer",
        scored_texts(read_yaml(sources.exp / "config.yaml"), sources.exp / "config.yaml"),
        sources.data_root, sources.test_sets, sources.inference_tag,
    )  # fmt: skip
    sizes = [_size(run, out, scoring) for run in runs]
    variants: list[schema.Variant] = []
    left_out: list[schema.LeftOut] = []
    for size in sizes:
        if size.final is not None:
            rows, lacking = _variants(size, out / size.final.exp, out, scoring)
            of_size = f" of {size.name}" if len(sizes) > 1 else ""
            variants += rows
            left_out += [schema.LeftOut(name=n + of_size, reason=why) for n, why in lacking.items()]
    return schema.Results(
        metric=scoring.metric,
        seed=runs[0].settings["search"]["seed"],
        corpus=sources.corpus,
        baseline=_system(sources.exp, shared["baseline"], out, scoring),
        sizes=sizes,
        variants=variants,
        uncompressed=[
            schema.LeftOut(name=u["name"], reason=u["reason"])
            for u in shared["uncompressed"]
            if len(u["shape"]) > 1  # not the vectors
        ],
        left_out=left_out,
        versions=_versions(),
        commands=list(sources.commands),
    )


def _runs(folders: Sequence[Path]) -> list[_Run]:
    """What the folders say, from the mildest target to the furthest."""
    runs = []
    for folder in folders:
        summary = read_yaml(_existing(folder / "rounds.yaml", "run the rounds first"))
        runs.append(_Run(folder, read_yaml(folder / "settings.yaml"), summary))
    runs.sort(key=lambda run: float(run.settings["target"]))
    for before, run in zip(runs, runs[1:], strict=False):
        both = f"{before.folder} and {run.folder}"
        if run.settings["target"] == before.settings["target"]:
            raise ShrinkError(f"{both} are rounds towards the same target: give one of them")
        for record, key in (("settings", "base_hash"), ("summary", "metric")):
            if getattr(run, record).get(key) != getattr(before, record).get(key):
                raise ShrinkError(
                    f"{both} hold rounds of different models, or judged by different metrics: "
                    "give those of one model and one dev set"
                )
    return runs


def _size(run: _Run, out: Path, scoring: Scoring) -> schema.Size:
    rounds = [
        _round(read_yaml(run.folder / f"round{n}" / "round.yaml"), run, out, scoring)
        for n in range(1, run.summary["rounds"] + 1)
    ]
    control = None
    if (run.folder / "control" / ".trained").exists():
        control = _system(run.folder / "control", run.summary["baseline"], out, scoring)
    return schema.Size(
        target=float(run.settings["target"]),
        reached=run.summary["reached_target"],
        control=control,
        rounds=rounds,
        final=next((_final(r) for r in rounds if r.round == run.summary["final"]), None),
    )


def _existing(path: Path, remedy: str) -> Path:
    if not path.exists():
        raise ShrinkError(f"no such file: {path}: {remedy}")
    return path


def _decoded(exp: Path, scoring: Scoring, suffix: str = "") -> dict[str, Any]:
    """Scores and RTF of every set, as `schema.Scored` has them.

    Args:
        suffix: of the inference tag.
    """
    scores: dict[str, dict[str, schema.Estimate]] = {}
    rtfs = {}
    for name in scoring.sets:
        folder = exp / f"{scoring.inference_tag}{suffix}" / name
        hypotheses = _existing(folder / "text", "decode it first")
        references = _existing(scoring.data_root / name / "text", "make the data first")
        counted = score(
            read_table(references), read_table(hypotheses), scoring.texts, scoring.metric
        )
        for metric in scoring.metrics:
            scores.setdefault(metric, {})[name] = _estimate(counted, metric)
        rtf = _rtf(folder / "logdir" / "calculate_rtf.log")
        if rtf is not None:
            rtfs[name] = rtf
    return {"scores": scores, "rtf": rtfs}


def _estimate(counted: Scores, metric: Metric) -> schema.Estimate:
    counts = counted.words if metric == "wer" else counted.characters
    return schema.Estimate(value=counts.rate, interval=bootstrap_interval(counts))


def _rtf(log: Path) -> float | None:
    """What ESPnet's calculate_rtf.py wrote; of some kinds of decoding it can measure none."""
    if not log.is_file():
        return None
    found = re.search(RTF, log.read_text(encoding="utf-8", errors="replace"))
    return None if found is None else float(found.group(1))


def _relative(exp: Path, out: Path) -> str:
    return os.path.relpath(exp.resolve(), out.resolve())


def _system(exp: Path, cost: Mapping[str, Any], out: Path, scoring: Scoring) -> schema.System:
    epochs = trained_epochs(exp) or planned_epochs(read_yaml(exp / "config.yaml"))
    return schema.System(**cost, **_decoded(exp, scoring), exp=_relative(exp, out), epochs=epochs)


def _round(done: Mapping[str, Any], run: _Run, out: Path, scoring: Scoring) -> schema.RoundResult:
    exp = run.folder / f"round{done['round']}"
    decoded: dict[str, Any] = {"scores": {}, "rtf": {}}
    if done["status"] == "accepted":
        decoded = _decoded(exp, scoring)
    before = {}
    if (exp / f"{scoring.inference_tag}{BEFORE_SUFFIX}").is_dir():
        scores = _decoded(exp, scoring, BEFORE_SUFFIX)["scores"][scoring.metric]
        before = {name: each.value for name, each in scores.items()}
    return schema.RoundResult(
        **{
            key: done[key]
            for key in (
                "round", "status", "compression", "target_compression", "params", "size_mib",
                "macs_per_audio_second", "search_evaluations", "searcher", "epochs", "ranks",
            )
        },
        **decoded,
        dev=done["dev"][scoring.metric],
        dev_limit=done["dev_wer_limit"],
        before_retraining=before,
        full_ranks=run.summary["full_ranks"],
        exp=_relative(exp, out),
    )  # fmt: skip


def _final(chosen: schema.RoundResult) -> schema.Final:
    return schema.Final(
        params=chosen.params, size_mib=chosen.size_mib, scores=chosen.scores, rtf=chosen.rtf,
        macs_per_audio_second=chosen.macs_per_audio_second, exp=chosen.exp,
        compression=chosen.compression, round=chosen.round,
    )  # fmt: skip


def _variants(
    size: schema.Size, exp: Path, out: Path, scoring: Scoring
) -> tuple[list[schema.Variant], dict[str, str]]:
    """The forms of the final model in `exp` that were decoded; of the others name and reason."""
    rows, left_out = [], {}
    int8 = exp / f"{scoring.inference_tag}{INT8_SUFFIX}"
    int8_left_out = int8.with_name(f"{int8.name}_left_out.txt")  # the reason, where it cannot run
    if all((int8 / name / "text").is_file() for name in scoring.sets):
        sizes = quantised_sizes(load_model(*find_model(exp)).model)
        rows.append(
            schema.Variant(
                name=INT8, target=size.target, size_mib=sizes.disk_mib, memory_mib=sizes.memory_mib,
                exp=_relative(int8, out), **_decoded(exp, scoring, INT8_SUFFIX),
            )
        )  # fmt: skip
    elif int8.is_dir() or int8_left_out.is_file():
        lacking = next(n for n in scoring.sets if not (int8 / n / "text").is_file())
        left_out[INT8] = f"{lacking} was not decoded with it"
        if int8_left_out.is_file():
            said = " ".join(int8_left_out.read_text(encoding="utf-8").split())
            left_out[INT8] = said or left_out[INT8]
    if (exp / "onnx").is_dir():
        of_this_model = sha256(find_model(exp)[1])
        for name, row in read_rows(exp / "onnx", of_this_model).items():
            scores = scores_of(row, scoring.metrics, scoring.sets)
            if any(scores.values()):
                rows.append(
                    schema.Variant(
                        name=name, target=size.target, size_mib=row["size_mib"],
                        memory_mib=row["memory_mib"], exp=_relative(exp / "onnx", out),
                        rtf={n: row["rtf"][n] for n in scoring.sets if n in row.get("rtf", {})},
                        scores=msgspec.convert(scores, dict[str, dict[str, schema.Estimate]]),
                    )
                )  # fmt: skip
    return rows, left_out


def _versions() -> schema.Versions:
    import torch

    return schema.Versions(
        python=platform.python_version(),
        torch=str(torch.__version__),  # a subclass of str
        espnet=espnet_version(),
        espnet_shrink=__version__,
    )
