"""A Markdown table and a plot of FILE.json, as rank_search.py writes it: give FILE.json."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib
from scipy import stats

from espnet_shrink.core.files import write_atomically, write_text

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def mean_interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t over seeds (0 for one seed)."""
    if len(values) < 2:
        return values[0], 0.0
    error = statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1)) * error


def values_of(rows: list[dict[str, Any]], searcher: str, ratio: float, key: str) -> list[float]:
    """The figures of one cell, one a seed."""
    return [r[key] for r in rows
            if (r["searcher"], r["ratio"]) == (searcher, ratio) and r[key] is not None]  # fmt: skip


def cell(values: list[float]) -> str:
    """Mean and interval as text."""
    if not values:
        return "-"
    mean, half = mean_interval(values)
    return f"{mean:.2f} ± {half:.2f}" if len(values) > 1 else f"{mean:.2f}"


def table(document: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Figures by searcher and ratio, a column for every key and ratio that there is."""
    rows = document["rows"]
    ratios = sorted({r["ratio"] for r in rows})
    searchers = list(dict.fromkeys(r["searcher"] for r in rows))
    columns = [(ratio, key) for key in keys for ratio in ratios
               if any(values_of(rows, s, ratio, key) for s in searchers)]  # fmt: skip
    heads = [f"{ratio:g}x" + (" retrained" if "retrained" in key else "") for ratio, key in columns]
    lines = ["|searcher|plans|" + "|".join(heads) + "|", "|---|---:|" + "---:|" * len(heads)]
    for searcher in searchers:
        plans = max(r["evaluations"] for r in rows if r["searcher"] == searcher)
        cells = [cell(values_of(rows, searcher, ratio, key)) for ratio, key in columns]
        lines.append(f"|{searcher}|{plans}|" + "|".join(cells) + "|")
    return "\n".join(lines)


def page(document: dict[str, Any]) -> str:
    """Test WER without and with retraining, and what the searches saw."""
    seeds = len({r["seed"] for r in document["rows"]})
    return "\n".join(
        [f"Test WER (%, {document['decoder']}) on {document['corpus']}; the uncompressed model "
         f"({document['params'] / 1e6:.2f} M parameters) has {document['baseline_wer']:.2f}. "
         f"Mean and 95 % interval over {seeds} seeds, where there are several.", "",
         table(document, ("wer_test", "wer_test_retrained")), "",
         "Errors on dev, by which the last choice is made (%, (WER + 3 CER) / 4), not retrained:",
         "", table(document, ("errors_dev",)), ""]
    )  # fmt: skip


def plot(document: dict[str, Any], path: Path) -> None:
    """Test WER without retraining against the ratio, a line a searcher."""
    rows = document["rows"]
    ratios = sorted({r["ratio"] for r in rows})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    searchers = list(dict.fromkeys(r["searcher"] for r in rows))
    colours = plt.get_cmap("tab20").colors
    for n, searcher in enumerate(searchers):
        cells = [mean_interval(values_of(rows, searcher, ratio, "wer_test")) for ratio in ratios]
        shift = 1 + 0.01 * (n - len(searchers) / 2)  # error bars side by side
        strong = searcher == "reinforce"
        axes.errorbar(
            [ratio * shift for ratio in ratios], [mean for mean, _ in cells],
            [half for _, half in cells], label=searcher, capsize=2, marker="o", markersize=4,
            linewidth=2.5 if strong else 1.0, color="black" if strong else colours[n % 20],
        )  # fmt: skip
    axes.axhline(document["baseline_wer"], color="grey", linestyle=":", label="uncompressed")
    axes.set(xlabel="compression (parameters before / after)", ylabel="test WER, %", yscale="log")
    axes.set_title(f"Rank choice on {document['corpus']}, without retraining")
    axes.set_ylim(bottom=0.7 * document["baseline_wer"])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "235" else "")
    figure.legend(fontsize=8, loc="outside right upper")
    with write_atomically(path) as beside:
        figure.savefig(beside, dpi=120)
    plt.close(figure)


def write_tables(path: Path) -> str:
    """Write FILE.md and FILE.png beside FILE.json; gives the table."""
    document = json.loads(path.read_text())
    text = page(document)
    write_text(path.with_suffix(".md"), text)
    plot(document, path.with_suffix(".png"))
    return text


if __name__ == "__main__":
    print(write_tables(Path(sys.argv[1])))
