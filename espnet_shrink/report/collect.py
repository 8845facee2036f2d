"""Gather results.json from what the rounds and the decoding stages left on disk."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.models import espnet_version, find_model, load_model
from espnet_shrink.compat.trainer import planned_epochs, trained_epochs
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.folder import sha256
from espnet_shrink.export.onnx_decode import read_rows
from espnet_shrink.export.quantised import quantised_sizes
from espnet_shrink.files import read_yaml
from espnet_shrink.proxy.kaldi import read_table
from espnet_shrink.report import results as schema
from espnet_shrink.report.wer import bootstrap_interval, score
from espnet_shrink.version import __version__

INT8_SUFFIX = "_int8"  # of the inference tag under which stage 20 decodes the quantised model


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


def collect(sources: Sources) -> schema.Results:
    """Read rounds, hypotheses and real-time factors, and score them.

    Raises:
        ShrinkError: stage 19 or 20 is not done; the missing file is named.
    """
    out = sources.out
    summary = read_yaml(_existing(out / "rounds.yaml", "run the rounds first (stage 19)"))
    rounds = [
        _round(read_yaml(out / f"round{n}" / "round.yaml"), summary, sources)
        for n in range(1, summary["rounds"] + 1)
    ]
    baseline = _system(sources.exp, summary["baseline"], sources)
    control = None
    if (out / "control" / ".trained").exists():
        control = _system(out / "control", summary["baseline"], sources)
    settings = read_yaml(out / "settings.yaml")
    final = _final(rounds, summary["final"], baseline)
    return schema.Results(
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
        variants=_variants(out / final.exp, sources),
    )


def _existing(path: Path, remedy: str) -> Path:
    if not path.exists():
        raise ShrinkError(f"no such file: {path}: {remedy}")
    return path


def _decoded(exp: Path, sources: Sources) -> dict[str, Any]:
    """WER, CER, interval and RTF of every set, by key and set."""
    found: dict[str, dict[str, Any]] = {"wer": {}, "cer": {}, "rtf": {}, "wer_interval": {}}
    for name in sources.test_sets:
        folder = exp / sources.inference_tag / name
        hypotheses = _existing(folder / "text", "decode it first (stage 12 or 20)")
        references = _existing(sources.data_root / name / "text", "run stage 3 first")
        scores = score(read_table(references), read_table(hypotheses))
        found["wer"][name] = scores.wer
        found["cer"][name] = scores.cer
        found["wer_interval"][name] = bootstrap_interval(scores.words)
        log = _existing(folder / "logdir" / "calculate_rtf.log", "decode again (stage 12 or 20)")
        rtf = re.search(r"RTF:\s*([\d.]+)", log.read_text(encoding="utf-8"))
        if rtf is None:
            raise ShrinkError(f"{log} has no line `RTF: ...`: decode again (stage 12 or 20)")
        found["rtf"][name] = float(rtf.group(1))
    return found


def _relative(exp: Path, out: Path) -> str:
    return os.path.relpath(exp.resolve(), out.resolve())


def _system(exp: Path, cost: dict[str, Any], sources: Sources) -> schema.System:
    epochs = trained_epochs(exp) or planned_epochs(read_yaml(exp / "config.yaml"))
    return schema.System(
        **cost, **_decoded(exp, sources), exp=_relative(exp, sources.out), epochs=epochs
    )


def _round(done: dict[str, Any], summary: dict[str, Any], sources: Sources) -> schema.Round:
    exp = sources.out / f"round{done['round']}"
    empty: dict[str, Any] = {"wer": {}, "cer": {}, "rtf": {}, "wer_interval": {}}
    decoded = _decoded(exp, sources) if done["status"] == "accepted" else empty
    before_tag = f"{sources.inference_tag}_before_retraining"
    before = {}
    if (exp / before_tag).is_dir():
        before = _decoded(exp, dataclasses.replace(sources, inference_tag=before_tag))["wer"]
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
        dev_wer=done["dev"]["wer"],
        wer_before_retraining=before,
        full_ranks=summary["full_ranks"],
        exp=_relative(exp, sources.out),
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
        rtf=chosen.rtf, wer_interval=chosen.wer_interval, exp=chosen.exp,
        compression=compression, round=number or 0,
    )  # fmt: skip


def _variants(exp: Path, sources: Sources) -> list[schema.Variant]:
    """The forms of the final model in `exp` that were decoded: int8 by stage 20, ONNX by export."""
    rows = []
    int8_tag = f"{sources.inference_tag}{INT8_SUFFIX}"
    if (exp / int8_tag).is_dir():
        sizes = quantised_sizes(load_model(*find_model(exp)).model)
        decoded = _decoded(exp, dataclasses.replace(sources, inference_tag=int8_tag))
        rows.append(
            schema.Variant(
                name="int8 (torch)", size_mib=sizes.disk_mib, memory_mib=sizes.memory_mib,
                exp=_relative(exp / int8_tag, sources.out), **decoded,
            )
        )  # fmt: skip
    if (exp / "onnx").is_dir():
        of_this_model = sha256(find_model(exp)[1])
        for name, row in read_rows(exp / "onnx", of_this_model).items():
            scores = {
                key: {n: row[key][n] for n in sources.test_sets if n in row[key]}
                for key in ("wer", "cer", "rtf", "wer_interval")
            }
            if scores["wer"]:
                rows.append(
                    schema.Variant(
                        name=name, size_mib=row["size_mib"], memory_mib=row["memory_mib"],
                        exp=_relative(exp / "onnx", sources.out), **scores,
                    )
                )  # fmt: skip
    return rows


def _versions() -> schema.Versions:
    import torch

    return schema.Versions(
        python=platform.python_version(),
        torch=str(torch.__version__),  # a subclass of str
        espnet=espnet_version(),
        espnet_shrink=__version__,
    )
