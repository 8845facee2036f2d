"""A compressed model for elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_shrink.cli.verb import (
    Verbs,
    add_exp,
    add_out,
    add_verb,
)
from espnet_shrink.errors import ShrinkError

if TYPE_CHECKING:
    from espnet_shrink.compat.models import LoadedModel


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "export", run, "write a model as a plain ESPnet model or as ONNX files",
        "--exp small/round2 --dense --out small/dense",
        "--exp small/round2 --onnx --int8 --out small/onnx",
    )  # fmt: skip
    add_exp(verb)
    add_out(verb)
    kind = verb.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--dense", action="store_true", help="plain ESPnet model, factors multiplied out"
    )
    kind.add_argument(
        "--onnx", action="store_true", help="encoder.onnx, ctc.onnx, decoder_step.onnx, meta.yaml"
    )
    verb.add_argument("--int8", action="store_true", help="with --onnx: also in 8 bits")
    verb.add_argument(
        "--data", type=Path, help="with --onnx: decode this set greedily, for the report"
    )


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.compat.models import find_model, load_model
    from espnet_shrink.export.dense import export_dense

    if args.dense and (args.int8 or args.data):
        raise ShrinkError("--int8 and --data go with --onnx, not with --dense")
    if args.onnx:
        from espnet_shrink.export.onnx_files import require_onnx

        require_onnx()  # before the model is loaded
    loaded = load_model(*find_model(args.exp, args.checkpoint))
    if args.dense:
        print(f"plain ESPnet model: {_sizes([export_dense(loaded, args.out)])}")
    else:
        _onnx(loaded, args)


def _onnx(loaded: LoadedModel, args: argparse.Namespace) -> None:
    from espnet_shrink.export.onnx_decode import decode_exported
    from espnet_shrink.export.onnx_files import export_onnx
    from espnet_shrink.objectives.score import Score

    print(f"ONNX files: {_sizes(export_onnx(loaded, args.out, args.int8))}")
    if args.data is None:
        return
    for name, row in decode_exported(loaded, args.out, args.data, args.int8).items():
        if args.data.name in row["wer"]:
            wer, cer, rtf = (row[key][args.data.name] for key in ("wer", "cer", "rtf"))
            score = Score(wer, cer, row["metric"])
            print(f"{args.data.name}: {name}: {score} RTF {rtf:.4f}")


def _sizes(paths: list[Path]) -> str:
    return ", ".join(f"{path} ({path.stat().st_size / 2**20:.2f} MiB)" for path in paths)
