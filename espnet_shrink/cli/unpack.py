"""An experiment folder of a model that was trained elsewhere."""

from __future__ import annotations

import argparse

from espnet_shrink.cli.verb import Verbs, add_out, add_verb
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "unpack", run, "make an experiment folder of a packed model or of a model tag",
        "model.zip --out exp/unpacked",
    )  # fmt: skip
    verb.add_argument(
        "model",
        metavar="MODEL",
        help="packed by ESPnet (.zip, .tar.gz, ...), or a tag of Hugging Face or of ESPnet's "
        "model zoo, such as espnet/NAME",
    )
    add_out(verb)


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    from espnet_shrink.compat.tasks import task_of
    from espnet_shrink.core.files import read_yaml
    from espnet_shrink.sources import open_source
    from espnet_shrink.sources.source import RECORD

    source = open_source(args.model, args.out)
    folder = source.config.parent
    if folder.resolve() != args.out.resolve():
        raise ShrinkError(
            f"{args.model} needs no unpacking: use it where it is, with --exp {folder}"
        )
    lm = "none" if source.lm_config is None else f"{source.lm_config} {source.lm_checkpoint}"
    print(f"config:         {source.config}")
    print(f"checkpoint:     {source.checkpoint} -> {source.checkpoint.readlink()}")
    print(f"language model: {lm}")
    print(f"task:           {task_of(read_yaml(source.config), source.config).name}")
    left_out = read_yaml(folder / RECORD).get("left_out")
    print(f"left out:       {' '.join(left_out or ['nothing'])}")
    for path in source.documents:
        print(f"see also:       {path}")
