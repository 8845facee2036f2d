"""Plot of a model's spectra, 1600 pixels wide: one panel per kind of site, a line per site."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from espnet_shrink.core.files import write_atomically
from espnet_shrink.report.inspection import Inspection, SiteRow, kept_energy
from espnet_shrink.report.plots import (
    ORANGE,
    STYLE,
    WIDTH_INCHES,
    spread,
)

DPI = 200
MARK_PERCENT = 95
MOST_IN_A_ROW = 3
COLOURS = ListedColormap(matplotlib.colormaps["viridis"](spread(256)))


def plot_spectra(inspection: Inspection, path: str | os.PathLike[str]) -> None:
    """Plot the energy that each rank keeps to `path`, in the format that its suffix names."""
    sites = inspection.sites
    places = {s.name: i / max(len(sites) - 1, 1) for i, s in enumerate(sites)}
    kinds = list(dict.fromkeys(site.kind for site in sites))
    in_a_row = 2 if len(kinds) in (2, 4) else min(len(kinds), MOST_IN_A_ROW)
    rows = -(-len(kinds) // in_a_row)
    with matplotlib.rc_context(STYLE):
        size = (WIDTH_INCHES, 0.9 + 2.5 * rows + (1.2 if rows == 1 else 0))
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, in_a_row, squeeze=False)
        for axes, kind in zip(panels.flat, kinds, strict=False):
            own = [site for site in sites if site.kind == kind]
            _panel(axes, own, inspection.energies, places)
            axes.set_title(f"{kind} ({len(own)})", fontsize=9)
        for axes in panels.flat[len(kinds) :]:
            axes.set_axis_off()
        figure.suptitle("Energy kept by rank", x=0.01, ha="left", weight="bold", fontsize=10)
        figure.supxlabel("rank, as a share of the full rank", fontsize=9)
        figure.supylabel("energy kept (squared singular values)", fontsize=9)
        bar = figure.colorbar(
            ScalarMappable(cmap=COLOURS), ax=list(panels.flat), ticks=[0, 1], aspect=40, pad=0.02
        )
        bar.ax.set_yticklabels(["first", "last"])
        bar.ax.invert_yaxis()  # as in the model and in the table
        bar.set_label("site, by its place in the model", labelpad=-10)
        bar.outline.set_visible(False)
        with write_atomically(path) as beside:
            figure.savefig(beside)


def _panel(
    axes: Axes,
    sites: Sequence[SiteRow],
    energies: Mapping[str, np.ndarray],
    places: Mapping[str, float],
) -> None:
    reached = []
    for site in sites:
        kept = np.concatenate([[0.0], kept_energy(energies[site.name])])
        axes.plot(
            np.linspace(0, 1, len(kept)), kept, color=COLOURS(places[site.name]), linewidth=0.9
        )
        reached.append(site.energy_ranks[str(MARK_PERCENT)] / min(site.shape))
    mean, height = float(np.mean(reached)), MARK_PERCENT / 100
    axes.vlines(mean, 0, height, color=ORANGE, linestyle="--", linewidth=1.1, zorder=3)
    axes.plot(mean, height, "o", color=ORANGE, markersize=4, zorder=4)
    label = f"{MARK_PERCENT} % at {100 * mean:.0f} % of\nthe full rank"
    axes.text(
        0.97, 0.05, label + (" (mean)" if len(sites) > 1 else ""),  # no curve is that low
        ha="right", fontsize=7.5, color=ORANGE, zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3.0},
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(labelsize=8)
    axes.grid(color="#E6E6E6", linewidth=0.6)
