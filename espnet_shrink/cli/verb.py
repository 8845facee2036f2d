"""What the verbs of the command line share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from espnet_shrink.training.rounds_settings import RoundsSettings

Verbs = Any
"""What `ArgumentParser.add_subparsers` gives."""


class Parser(argparse.ArgumentParser):
    """Options by their whole names; what is wrong with them in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there are any: of other options the help itself says what holds."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], text: str, *examples: str
) -> argparse.ArgumentParser:
    """Add a verb whose help shows `text`, every option with its default, and examples."""
    shown = "\n".join(f"  espnet-shrink {name} {example}".rstrip() for example in examples)
    new: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, formatter_class=Formatter,
        epilog=f"for example:\n{shown}" if examples else None,
    )  # fmt: skip
    new.set_defaults(run=run)
    return new


def add_exp(verb: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """Add --exp and, if a model is loaded from there, --checkpoint."""
    verb.add_argument("--exp", type=Path, required=True, help="ESPnet experiment folder")
    if checkpoint:
        add_checkpoint(verb)


def add_checkpoint(verb: argparse.ArgumentParser) -> None:
    """Add --checkpoint."""
    verb.add_argument(
        "--checkpoint",
        help="model file beside the config.yaml; by default what its "
        "best_model_criterion names, such as valid.acc.ave.pth",
    )


def add_model(verb: argparse.ArgumentParser, more: str = "") -> None:
    """Add MODEL and --checkpoint."""
    verb.add_argument(
        "model",
        metavar="MODEL",
        help="experiment folder, its config.yaml or a checkpoint in it, a packed model (.zip, "
        f".tar.gz, ...), or a tag such as espnet/NAME{more}",
    )
    add_checkpoint(verb)


def add_out(verb: argparse.ArgumentParser) -> None:
    """Add --out."""
    verb.add_argument("--out", type=Path, required=True, help="folder to write to")


def add_target(
    verb: argparse.ArgumentParser, default: str = "by default that of the rounds preset (5x)"
) -> None:
    """Add --target."""
    verb.add_argument(
        "--target", type=compression, metavar="N[x]",
        help=f"compression to reach, all parameters before / after, such as 5x; {default}",
    )  # fmt: skip


def add_presets(verb: argparse.ArgumentParser, *names: str) -> None:
    """Add --search_config, --rounds_config."""
    for name in names:
        verb.add_argument(
            f"--{name}_config", type=Path, metavar="FILE.yaml",
            help=f"{name} preset; by default {name}.yaml of `espnet-shrink settings`",
        )  # fmt: skip


def add_learning_rate(verb: argparse.ArgumentParser) -> None:
    """Add --learning_rate."""
    verb.add_argument(
        "--learning_rate", type=float,
        help="to retrain from; by default that of the rounds preset (half the last rate of the "
        "first training, where its checkpoint.pth, train.log or schedule tell)",
    )  # fmt: skip


def rounds_settings(args: argparse.Namespace, target: float | None) -> RoundsSettings:
    """The rounds preset, with what --target and --learning_rate say."""
    from espnet_shrink.core.settings import load_settings
    from espnet_shrink.training.rounds_settings import RoundsSettings

    given = {"target": target, "learning_rate": args.learning_rate}
    return load_settings(RoundsSettings, args.rounds_config, given)


def add_seed(verb: argparse.ArgumentParser) -> None:
    """Add --seed."""
    verb.add_argument(
        "--seed", type=int, help="random seed; by default that of the search preset (0)"
    )


def add_asked(verb: argparse.ArgumentParser) -> None:
    """Add --lang_sym and --task_sym, named as in ESPnet's s2t_inference."""
    for name, what, example in (("lang_sym", "language", "<eng>"), ("task_sym", "task", "<asr>")):
        verb.add_argument(
            f"--{name}",
            help=f"{what} that a speech-to-text (OWSM) model is asked for where the text in DATA "
            f"has no such tag in front; by default {example}",
        )


def add_workers(verb: argparse.ArgumentParser) -> None:
    """Add --workers."""
    verb.add_argument(
        "--workers",
        metavar="N|ADDRESS",
        help="score plans on N processes of this machine, or on the workers of the Dask scheduler "
        "at ADDRESS; by default in this process, on all cores",
    )


def compressions(text: str) -> tuple[float, ...]:
    """ "2x,3x,5x" as numbers."""
    found = tuple(compression(part) for part in text.split(","))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a compression twice")
    return found


def compression(text: str) -> float:
    """ "5x" or "5" as a number."""
    try:
        return float(text.strip().lower().removesuffix("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no compression: give 5x or 5") from error
