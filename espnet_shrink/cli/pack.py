"""The final model as one archive."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_exp, add_verb


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "pack", run, "pack a compressed model with its card and its report",
        "--exp small/round2 --base exp/asr --report small --out small.zip",
    )  # fmt: skip
    add_exp(verb)
    verb.add_argument("--out", type=Path, required=True, help="archive to write (.zip)")
    verb.add_argument("--base", required=True, help="MODEL that it was made from")
    verb.add_argument("--report", type=Path, required=True, help="folder of results.json")
    verb.add_argument("--lm", type=Path, help="experiment folder of a language model to add")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    import dataclasses

    from espnet_shrink.compat.models import find_model
    from espnet_shrink.export.release import release
    from espnet_shrink.report.results import load
    from espnet_shrink.sources import open_source

    with tempfile.TemporaryDirectory() as scratch:
        base = open_source(args.base, Path(scratch) / "base")
        small = open_source(str(args.exp), Path(scratch) / "small", args.checkpoint)
        lm = (base.lm_config, base.lm_checkpoint) if args.lm is None else find_model(args.lm)
        small = dataclasses.replace(small, lm_config=lm[0], lm_checkpoint=lm[1])
        packed = release(small, load(args.report / "results.json"), base, args.report, args.out)
    print(f"packed: {packed.archive} ({packed.size_mib:.2f} MiB)")
