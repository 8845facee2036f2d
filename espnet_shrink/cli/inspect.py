"""Before anything is compressed, or after: what a model consists of."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from espnet_shrink.cli.verb import Verbs, add_model, add_verb
from espnet_shrink.errors import ShrinkError


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "inspect", run, "show a model's sites, their spectra, its size and MACs",
        "exp/asr --plot spectra.png",
    )  # fmt: skip
    add_model(verb, "; compressed or not")
    verb.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the spectra to this file")
    verb.add_argument(
        "--latency",
        action="store_true",
        help="also measure how long every matrix takes on one thread of this machine, and up to "
        "which rank factors are faster (kept in ~/.cache/espnet_shrink)",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON document instead")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    import json
    import shutil
    import tempfile

    if args.plot is not None:
        _check_plot(args.plot)

    from espnet_shrink.compat.models import load_model
    from espnet_shrink.pipeline.inspection import inspect_model
    from espnet_shrink.report.inspected import inspection_text
    from espnet_shrink.sources import open_source

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(sys.stderr),  # ESPnet prints in places: not into the JSON
    ):
        source = open_source(args.model, Path(folder) / "model", args.checkpoint)
        loaded = load_model(source.config, source.checkpoint)
        inspection = inspect_model(loaded, source.origin, args.latency)
    if args.plot is not None:
        from espnet_shrink.report.spectra import plot_spectra

        try:
            plot_spectra(inspection, args.plot)
        except OSError as error:
            raise ShrinkError(f"cannot write the plot {args.plot}: {error.strerror}") from error
    if args.json:
        print(json.dumps(inspection.document(), indent=1, ensure_ascii=False))
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(inspection_text(inspection, columns))
    if args.plot is not None:
        print(f"plot: {args.plot}")


def _check_plot(path: Path) -> None:
    """Refuse what cannot be written before the model is loaded.

    Raises:
        ShrinkError: no format has that suffix, or the file cannot be made there.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        raise ShrinkError(
            f"--plot {path}: no plot format has the suffix {path.suffix or '(none)'}: "
            f"choose of {', '.join(known)}"
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ShrinkError(f"--plot {path} cannot be written: choose another place")
