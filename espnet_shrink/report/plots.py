"""Plots of results.json as PNG files, 1200 pixels wide, in colours the colour-blind can tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox

from espnet_shrink.core.files import write_atomically
from espnet_shrink.report.layout import shorten
from espnet_shrink.report.results import Results, RoundResult
from espnet_shrink.report.tables import IN_PERCENT, chosen_rounds, round_name

WIDTH_INCHES, DPI = 8.0, 150

# Okabe & Ito's palette, made to be told apart by everyone.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
DENSE = "#C9CDD2"
UNCOMPRESSED = "uncompressed\n1×"

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # names are names, even with a $ in them
}


def plot_wer(results: Results, path: str | os.PathLike[str]) -> None:
    """Plot the deciding score against parameters by round of one size, a panel per set, as PNG."""
    plot_panels(
        results, path, 4, lambda axes, name: _wer_panel(axes, results, name),
        lambda axes, canvas: _label_rounds(axes, results, canvas),
    )  # fmt: skip


def plot_panels(
    results: Results,
    path: str | os.PathLike[str],
    columns: int,
    draw: Callable[[Axes, str], None],
    label: Callable[[Axes, FigureCanvasAgg], float],
) -> None:
    """Plot the deciding score against parameters, a panel per set, to the PNG file `path`.

    Args:
        columns: of the legend.
        draw: fills the panel of a set.
        label: writes names above a panel, and gives the points that they take.
    """
    with matplotlib.rc_context(STYLE):
        height = 4.3 * len(results.sets) + 0.5
        figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        panels = figure.subplots(len(results.sets), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, results.sets, strict=True):
            draw(axes, name)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        rate = results.metric.upper()
        figure.draw_without_rendering()  # places the axes, so that labels can be measured
        for axes, name in zip(panels, results.sets, strict=True):
            top = label(axes, canvas)
            axes.set_title(f"{results.corpus}, {name}: {rate} against parameters", pad=top)
        save(figure, path)


def plot_ranks(results: Results, path: str | os.PathLike[str]) -> None:
    """Plot the rank kept at each site, by accepted round or by size, to the PNG file `path`."""
    rounds = _labelled_rounds(results)
    full_ranks = {site: full for _, r in rounds for site, full in r.full_ranks.items()}
    sites = list(full_ranks)
    colours = [to_hex(c) for c in matplotlib.colormaps["viridis"](spread(len(rounds)))]
    bar = 0.8 / max(len(rounds), 1)
    with matplotlib.rc_context(STYLE):
        bar_inches = 0.26 if len(rounds) == 1 else 0.13
        height = 1.4 + len(sites) * max(len(rounds), 1) * bar_inches / 0.8
        figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for index in range(0, len(sites), 2):
            axes.axhspan(index - 0.5, index + 0.5, color="#F4F5F6", linewidth=0)
        for index, ((_, r), colour) in enumerate(zip(rounds, colours, strict=True)):
            for row, site in enumerate(sites):
                if site in r.ranks:
                    _rank_bar(axes, r, site, row + (index + 0.5) * bar - 0.4, bar, colour)
        axes.set_yticks(range(len(sites)), [shorten(site) for site in sites], fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(max(len(sites), 1) - 0.5, -0.5)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axes.set_xlabel("rank kept, as a share of the full rank (number: the rank itself)")
        axes.set_title("Rank kept at each site", pad=8)
        legend = [
            Patch(color=colour, label=label)
            for (label, _), colour in zip(rounds, colours, strict=True)
        ]
        legend.append(Patch(facecolor=DENSE, edgecolor=GREY, hatch="////", label="left dense"))
        figure.legend(handles=legend, loc="outside upper right", ncols=min(len(legend), 5))
        save(figure, path)


def _labelled_rounds(results: Results) -> list[tuple[str, RoundResult]]:
    if len(results.sizes) > 1:
        return [(f"{r.compression:.1f}×", r) for _, r in chosen_rounds(results)]
    accepted = results.smallest.accepted
    return [(f"{round_name(r)}, {r.compression:.1f}×", r) for r in accepted]


def _wer_panel(axes: Axes, results: Results, name: str) -> None:
    lines = [("baseline", results.baseline, GREY, "--")]
    if results.control is not None:
        lines.append(("control", results.control, ORANGE, "-."))
    tops = []
    metric = results.metric
    for label, system, colour, dashes in lines:
        low, high = system.intervals(metric)[name]
        axes.axhspan(low, high, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(
            system.values(metric)[name],
            color=colour,
            linestyle=dashes,
            linewidth=1.4,
        )
        axes.plot(
            system.params / 1e6,
            system.values(metric)[name],
            color=colour,
            linestyle=dashes,
            linewidth=1.4,
            marker="s",
            markersize=6,
            zorder=3,
            label=label,
        )
        tops.append(high)
    for r in results.smallest.accepted:
        low, high = r.intervals(metric)[name]
        rate = r.values(metric)[name]
        axes.errorbar(
            r.params / 1e6,
            rate,
            [[max(rate - low, 0)], [max(high - rate, 0)]],
            fmt="o",
            color=BLUE,
            markersize=7,
            capsize=4,
            linewidth=1.3,
            zorder=3,
            label="after retraining" if r is results.smallest.accepted[0] else None,
        )
        tops.append(high)
    if results.smallest.accepted:
        axes.plot(
            [r.params / 1e6 for r in results.smallest.accepted],
            [r.values(metric)[name] for r in results.smallest.accepted],
            color=BLUE,
            alpha=0.35,
            zorder=2,
        )
    top = _hollow_points(axes, results, name, max(tops))
    axes.set_ylim(0, top)
    params_axis(axes, [results.baseline.params, *(r.params for r in results.smallest.accepted)])
    axes.set_ylabel(score_axis(metric))


def score_axis(metric: str) -> str:
    """`WER (%) with 95 % intervals`."""
    return f"{metric.upper()}{' (%)' if metric in IN_PERCENT else ''} with 95 % intervals"


def params_axis(axes: Axes, params: Sequence[int]) -> None:
    """Make x the parameters in millions: equal ratios are equal distances; margins hold labels."""
    millions = [count / 1e6 for count in params]
    margin = max((max(millions) / min(millions)) ** 0.07, 1.1)
    low, high = min(millions) / margin, max(millions) * margin
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    fine = high / low < 20
    axes.xaxis.set_major_locator(LogLocator(subs=[1, 1.5, 2, 3, 4, 6, 8] if fine else [1, 2, 5]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_xlabel("parameters (millions, log scale)")


def _hollow_points(axes: Axes, results: Results, name: str, measured_top: float) -> float:
    """Draw error rates before retraining; return the top of the axis.

    Before retraining an error rate can be many times what it is after: a point past the axis is an
    arrow at its upper edge with the value beside it, so that the rest stays readable.
    """
    before = [(r.params / 1e6, r.before_retraining.get(name), r) for r in results.smallest.accepted]
    points = [(x, y) for x, y, _ in before if y is not None]
    limit = 2.2 * (measured_top or 1)
    top = 1.2 * max([measured_top or 1, *(y for _, y in points if y <= limit)])
    hollow: dict[str, Any] = dict(
        color=BLUE, markerfacecolor="white", markersize=7, linestyle="none", zorder=3
    )
    if points:
        axes.plot([], [], marker="o", label="before retraining", **hollow)
    for x, y in points:
        inside = y <= limit
        marker = "o" if inside else "^"
        axes.plot(x, y if inside else 0.96 * top, marker=marker, **hollow)
        if not inside:
            axes.annotate(
                f"{y:.1f} %",
                (x, 0.96 * top),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=BLUE,
            )
    return top


def _label_rounds(axes: Axes, results: Results, canvas: FigureCanvasAgg) -> float:
    names = [(results.baseline.params, UNCOMPRESSED, False)]
    for r in results.smallest.accepted:
        final = r.round == results.final.round
        text = f"round {r.round}{', final' if final else ''}\n{r.compression:.1f}×"
        names.append((r.params, text, final))
    return label_points(axes, names, canvas)


def label_points(
    axes: Axes, names: Sequence[tuple[int, str, bool]], canvas: FigureCanvasAgg
) -> float:
    """Name points above the panel, where no data is; return the height used, in points.

    A label that would touch its neighbour goes one line of labels up. The axes must be in place:
    labels are measured.

    Args:
        names: parameters, text of two lines, and whether it is bold.
    """
    renderer = canvas.get_renderer()
    taken: list[Bbox] = []
    highest = 0
    for params, text, bold in sorted(names):
        axes.axvline(params / 1e6, color=GREY, linestyle=":", linewidth=0.7, zorder=1)
        for offset in range(3, 3 + 24 * len(names), 24):
            label = axes.annotate(
                text,
                (params / 1e6, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, offset),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                fontweight="bold" if bold else "normal",
            )
            box = label.get_window_extent(renderer).padded(4)
            if not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        taken.append(box)
        highest = max(highest, offset)
    return highest + 30


def _rank_bar(axes: Axes, r: RoundResult, site: str, y: float, height: float, colour: str) -> None:
    rank = r.ranks[site]
    dense = rank == "dense"
    share = 1.0 if rank == "dense" else rank / r.full_ranks[site]
    axes.barh(
        y,
        share,
        height=0.92 * height,
        color=DENSE if dense else colour,
        hatch="////" if dense else None,
        edgecolor=GREY if dense else colour,
        linewidth=0.3,
    )
    axes.text(share + 0.006, y, str(rank), va="center_baseline", fontsize=6.5, color="#222222")


def spread(count: int) -> list[float]:
    """Places on a colour map for `count` rounds, without its palest end."""
    return [0.15 + 0.65 * index / max(count - 1, 1) for index in range(count)]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a PNG file, whole or not at all."""
    with write_atomically(path) as beside:
        figure.savefig(beside, format="png")
