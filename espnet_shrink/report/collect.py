"""Gather results.json from what the rounds and the decoding left on disk."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from espnet_shrink.report.wer import bootstrap_interval, score
from espnet_shrink.version import __version__

# Of the inference tags under which the recipe decodes the quantised model, and each round as it
# was factorised.
INT8_SUFFIX, BEFORE_SUFFIX = "_int8", "_before_retraining"
INT8 = "int8 (torch)"
SCORES = ("wer", "cer", "rtf", "wer_interval", "cer_interval")
RTF = r"RTF:\s*([\d.]+(?:[eE][-+]?\d+)?)"


@dataclass(frozen=True)
class Sources:
    """Where to look.

    Attributes:
        exp: the baseline's experiment folder.
        out: the folder of the rounds; results.json goes there.
        data_root: holds SET/text, the references (dump/raw).
        test_sets: sets that were decoded.
        inference_tag: EXP/`inference_tag`/SET/text are the hypotheses.
        corpus, commands: for the record.
    """

    exp: Path
    out: Path
    data_root: Path
    test_sets: Sequence[str]
    inference_tag: str
    corpus: str
    commands: Sequence[str]


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


def collect(sources: Sources) -> schema.Results:
    """Read rounds, hypotheses and real-time factors, and score them.

    A real-time factor that was not measured, and a form of the final model that was not decoded,
    are left out.

    Raises:
        ShrinkError: a round or its hypotheses are missing; the file is named.
    """
    out = sources.out
    summary = read_yaml(_existing(out / "rounds.yaml", "run the rounds first"))
    scoring = Scoring(
        "cer" if summary.get("metric") == "cer" else "wer",
        scored_texts(read_yaml(sources.exp / "config.yaml"), sources.exp / "config.yaml"),
        sources.data_root, sources.test_sets, sources.inference_tag,
    )  # fmt: skip
    rounds = [
        _round(read_yaml(out / f"round{n}" / "round.yaml"), summary, out, scoring)
        for n in range(1, summary["rounds"] + 1)
    ]
    baseline = _system(sources.exp, summary["baseline"], out, scoring)
    control = None
    if (out / "control" / ".trained").exists():
        control = _system(out / "control", summary["baseline"], out, scoring)
    settings = read_yaml(out / "settings.yaml")
    final = _final(rounds, summary["final"], baseline)
    variants, left_out = _variants(out / final.exp, out, scoring)
    return schema.Results(
        metric=scoring.metric,
        seed=settings["search"]["seed"],
        corpus=sources.corpus,
        baseline=baseline,
        control=control,
        rounds=rounds,
        final=final,
        uncompressed=[
            schema.Uncompressed(name=u["name"], reason=u["reason"])
            for u in summary["uncompressed"]
            if not u["reason"].startswith("a vector")
        ],
        versions=_versions(),
        commands=list(sources.commands),
        variants=variants,
        left_out=left_out,
    )


def _existing(path: Path, remedy: str) -> Path:
    if not path.exists():
        raise ShrinkError(f"no such file: {path}: {remedy}")
    return path


def _decoded(exp: Path, scoring: Scoring, suffix: str = "") -> dict[str, Any]:
    """Error rates, intervals and RTF of every set, by key and set.

    Args:
        suffix: of the inference tag.
    """
    found = _nothing()
    for name in scoring.sets:
        folder = exp / f"{scoring.inference_tag}{suffix}" / name
        hypotheses = _existing(folder / "text", "decode it first")
        references = _existing(scoring.data_root / name / "text", "make the data first")
        scores = score(
            read_table(references), read_table(hypotheses), scoring.texts, scoring.metric
        )
        found["wer"][name] = scores.wer
        found["cer"][name] = scores.cer
        found["wer_interval"][name] = bootstrap_interval(scores.words)
        found["cer_interval"][name] = bootstrap_interval(scores.characters)
        rtf = _rtf(folder / "logdir" / "calculate_rtf.log")
        if rtf is not None:
            found["rtf"][name] = rtf
    return found


def _nothing() -> dict[str, dict[str, Any]]:
    return {key: {} for key in SCORES}


def _rtf(log: Path) -> float | None:
    """What ESPnet's calculate_rtf.py wrote; of some kinds of decoding it can measure none."""
    if not log.is_file():
        return None
    found = re.search(RTF, log.read_text(encoding="utf-8", errors="replace"))
    return None if found is None else float(found.group(1))


def _relative(exp: Path, out: Path) -> str:
    return os.path.relpath(exp.resolve(), out.resolve())


def _system(exp: Path, cost: dict[str, Any], out: Path, scoring: Scoring) -> schema.System:
    epochs = trained_epochs(exp) or planned_epochs(read_yaml(exp / "config.yaml"))
    return schema.System(**cost, **_decoded(exp, scoring), exp=_relative(exp, out), epochs=epochs)


def _round(
    done: dict[str, Any], summary: dict[str, Any], out: Path, scoring: Scoring
) -> schema.Round:
    exp = out / f"round{done['round']}"
    decoded = _decoded(exp, scoring) if done["status"] == "accepted" else _nothing()
    before = {}
    if (exp / f"{scoring.inference_tag}{BEFORE_SUFFIX}").is_dir():
        before = _decoded(exp, scoring, BEFORE_SUFFIX)[scoring.metric]
    return schema.Round(
        **{
            key: done[key]
            for key in (
                "round", "status", "compression", "target_compression", "params", "size_mib",
                "macs_per_audio_second", "search_evaluations", "searcher", "epochs",
                "dev_wer_limit", "ranks",
            )
        },
        **decoded,
        dev_wer=done["dev"][scoring.metric],
        wer_before_retraining=before,
        full_ranks=summary["full_ranks"],
        exp=_relative(exp, out),
    )  # fmt: skip


def _final(
    rounds: Sequence[schema.Round], number: int | None, baseline: schema.System
) -> schema.Final:
    chosen: schema.Measured = baseline
    compression = 1.0
    for r in rounds:
        if r.round == number:
            chosen, compression = r, r.compression
    return schema.Final(
        params=chosen.params, size_mib=chosen.size_mib,
        macs_per_audio_second=chosen.macs_per_audio_second, wer=chosen.wer, cer=chosen.cer,
        rtf=chosen.rtf, wer_interval=chosen.wer_interval, cer_interval=chosen.cer_interval,
        exp=chosen.exp, compression=compression, round=number or 0,
    )  # fmt: skip


def _variants(
    exp: Path, out: Path, scoring: Scoring
) -> tuple[list[schema.Variant], list[schema.LeftOut]]:
    """The forms of the final model in `exp` that were decoded, and those that could not be."""
    rows, left_out = [], []
    int8 = exp / f"{scoring.inference_tag}{INT8_SUFFIX}"
    int8_left_out = int8.with_name(f"{int8.name}_left_out.txt")  # the reason, where it cannot run
    if all((int8 / name / "text").is_file() for name in scoring.sets):
        sizes = quantised_sizes(load_model(*find_model(exp)).model)
        rows.append(
            schema.Variant(
                name=INT8, size_mib=sizes.disk_mib, memory_mib=sizes.memory_mib,
                exp=_relative(int8, out), **_decoded(exp, scoring, INT8_SUFFIX),
            )
        )  # fmt: skip
    elif int8.is_dir() or int8_left_out.is_file():
        lacking = next(n for n in scoring.sets if not (int8 / n / "text").is_file())
        reason = f"{lacking} was not decoded with it"
        if int8_left_out.is_file():
            reason = " ".join(int8_left_out.read_text(encoding="utf-8").split()) or reason
        left_out.append(schema.LeftOut(name=INT8, reason=reason))
    if (exp / "onnx").is_dir():
        of_this_model = sha256(find_model(exp)[1])
        for name, row in read_rows(exp / "onnx", of_this_model).items():
            scores = {
                key: {n: row[key][n] for n in scoring.sets if n in row.get(key, {})}
                for key in SCORES
            }
            if scores["wer"]:
                rows.append(
                    schema.Variant(
                        name=name, size_mib=row["size_mib"], memory_mib=row["memory_mib"],
                        exp=_relative(exp / "onnx", out), **scores,
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
