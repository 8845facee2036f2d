"""An ESPnet experiment of a checkpoint of OpenAI's Whisper."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_out, add_verb
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "whisper", run, "make an ESPnet experiment of a checkpoint of OpenAI's Whisper",
        "tiny.en.pt --out exp/asr_whisper_tiny_en",
        "base.pt --language de --out exp/asr_whisper_base_de",
    )  # fmt: skip
    verb.add_argument(
        "model",
        metavar="CHECKPOINT",
        help="file of OpenAI's layout, or the name of one of its models, which is downloaded "
        "unless it is in the cache of the package whisper",
    )
    add_out(verb)
    verb.add_argument("--language", default="en", help="that is spoken, such as de")
    verb.add_argument(
        "--train_config",
        type=Path,
        metavar="FILE.yaml",
        help="ESPnet's settings of further training; by default whisper.yaml of `espnet-shrink "
        "settings`",
    )


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.compat.whisper.experiment import CHECKPOINT, read, write
    from espnet_shrink.core.files import read_yaml
    from espnet_shrink.core.out_folder import check_out
    from espnet_shrink.presets import presets

    for name in ("config.yaml", CHECKPOINT):
        if (args.out / name).exists():
            raise ShrinkError(
                f"{args.out / name} is there already and is left as it is: choose another --out"
            )
    check_out(args.out, True)
    preset = read_yaml(presets()["whisper"] if args.train_config is None else args.train_config)
    found = read(args.model)
    write(found, preset, args.language, args.out)
    count = sum(value.numel() for value in found.state.values())
    print(f"experiment: {args.out} ({count / 1e6:.1f} M parameters, {args.language})")
    print(f"next:       espnet-shrink compress {args.out} --data DATA --target 2x --out OUT")
