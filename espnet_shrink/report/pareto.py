"""The plot of several sizes: what each costs in errors, against its parameters."""

from __future__ import annotations

import os

from matplotlib.axes import Axes

from espnet_shrink.report.plots import (
    BLUE,
    GREY,
    ORANGE,
    UNCOMPRESSED,
    label_points,
    params_axis,
    plot_panels,
    score_axis,
)
from espnet_shrink.report.results import Results, Size


def plot_pareto(results: Results, path: str | os.PathLike[str]) -> None:
    """Plot the deciding score against parameters by size, a panel per set, to the PNG `path`."""
    names = [(results.baseline.params, UNCOMPRESSED, False)]
    for size in results.sizes:
        if size.final is not None:
            text = f"target {size.name}\n{size.final.compression:.2f}×"
            names.append((size.final.params, text, True))
    plot_panels(
        results, path, 3, lambda axes, name: _panel(axes, results, name),
        lambda axes, canvas: label_points(axes, names, canvas),
    )  # fmt: skip


def _panel(axes: Axes, results: Results, name: str) -> None:
    metric, before = results.metric, results.baseline
    low, high = before.intervals(metric)[name]
    tops = [high]
    axes.axhspan(low, high, color=GREY, alpha=0.13, linewidth=0)
    axes.axhline(before.values(metric)[name], color=GREY, linestyle="--", linewidth=1.2)
    axes.plot(
        before.params / 1e6, before.values(metric)[name], "s", color=GREY, markersize=7, zorder=4,
        label="baseline",
    )  # fmt: skip
    made = [size for size in results.sizes if size.final is not None]
    tops += [_control(axes, results, size, name) for size in made]
    points = []
    for size in made:
        final = results.final_of(size)
        value, (low, high) = final.values(metric)[name], final.intervals(metric)[name]
        points.append((final.params / 1e6, value))
        axes.errorbar(
            *points[-1], [[max(value - low, 0)], [max(high - value, 0)]], fmt="o", color=BLUE,
            markersize=8, capsize=4, linewidth=1.3, zorder=5,
            label="compressed" if len(points) == 1 else None,
        )  # fmt: skip
        tops.append(high)
    line = sorted(points)
    axes.plot([x for x, _ in line], [y for _, y in line], color=BLUE, alpha=0.35, zorder=2)
    axes.set_ylim(0, 1.1 * (max(tops) or 1))
    params_axis(axes, [before.params, *(results.final_of(size).params for size in made)])
    axes.set_ylabel(score_axis(metric))


def _control(axes: Axes, results: Results, size: Size, name: str) -> float:
    """Draw the control of `size` where it is, and its level up to the model; return its top."""
    if size.control is None:
        return 0.0
    value = size.control.values(results.metric)[name]
    ends = [results.final_of(size).params / 1e6, size.control.params / 1e6]
    first = size is next(each for each in results.sizes if each.control is not None)
    axes.plot(ends, [value, value], color=ORANGE, linestyle=":", linewidth=1.1, zorder=2)
    axes.plot(
        ends[1], value, "D", color=ORANGE, markersize=6, zorder=3,
        label="control of each size, and its level at the model" if first else None,
    )  # fmt: skip
    axes.plot(ends[0], value, "_", color=ORANGE, markersize=16, markeredgewidth=2.2, zorder=3)
    return value
