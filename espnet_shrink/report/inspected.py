"""An inspected model as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from espnet_shrink.plan import Survey, describe
from espnet_shrink.report.inspection import (
    ENERGY_PERCENTS,
    Inspection,
    SiteRow,
    Totals,
)
from espnet_shrink.report.layout import Table, aligned, shorten

# Shorter than that, the names of two layers can become the same.
SHORTEST_NAME = 44
LEGEND = (
    "90 %, 95 %, 99 %: the smallest rank that keeps this share of the energy (squared singular\n"
    "values); break-even: the largest rank that saves parameters"
)
LATENCY_LEGEND = (
    "faster up to: the largest rank that saves parameters and time, for one recording on one\n"
    "thread of this machine; RTF: seconds that the matrix takes, as it is, per second of audio"
)


def inspection_text(inspection: Inspection, columns: int | None = None) -> str:
    """The sites, what is no site and why, and the totals.

    Args:
        inspection: the model.
        columns: width of the terminal, for which long names of sites are cut; None for a file.
    """
    found, totals = inspection, inspection.totals
    vectors = sum(u.params for u in found.uncompressed if len(u.shape) < 2)
    parts = [
        f"{found.model} ({found.checkpoint}): {found.task} model, ESPnet {found.espnet}",
        _fitted(inspection, columns),
        LEGEND if totals.rtf is None else f"{LEGEND}\n{LATENCY_LEGEND}",
        "\n".join(
            [
                *(f"not compressed: {line}" for line in describe(Survey([], found.uncompressed))),
                f"vectors (biases, norms) keep their {vectors:,} parameters",
            ]
        ),
        _totals(totals, found.is_compressed),
    ]
    return "\n\n".join(parts)


def _fitted(inspection: Inspection, columns: int | None) -> str:
    """The table of sites, with names as long as `columns` allow."""
    names = [site.name for site in inspection.sites]
    text = aligned(_table(inspection, names), 1)
    surplus = max(map(len, text.splitlines())) - columns if columns else 0
    if surplus <= 0:
        return text
    longest = max(max(map(len, names), default=0) - surplus, SHORTEST_NAME)
    return aligned(_table(inspection, [shorten(name, longest) for name in names]), 1)


def _table(inspection: Inspection, names: list[str]) -> Table:
    header = ["site", "kind", "shape", "params", "share"]
    header += [f"{percent} %" for percent in ENERGY_PERCENTS] + ["break-even"]
    timed = inspection.totals.rtf is not None
    if timed:
        header += ["faster up to", "RTF"]
    if inspection.is_compressed:
        header.append("rank")

    def row(name: str, site: SiteRow) -> tuple[str, ...]:
        cells = [name, site.kind, "x".join(map(str, site.shape)), f"{site.params:,}"]
        cells += [f"{site.share:.1%}", *map(str, site.energy_ranks.values())]
        cells += [str(site.break_even_rank)]
        if timed:
            cells += [str(site.fast_rank or "never"), f"{site.rtf or 0.0:.5f}"]
        return (*cells, str(site.rank)) if inspection.is_compressed else tuple(cells)

    rows = [row(name, site) for name, site in zip(names, inspection.sites, strict=True)]
    return Table(tuple(header), tuple(rows))


def _totals(totals: Totals, is_compressed: bool) -> str:
    macs, unit = totals.macs_per_audio_second, "second of audio"
    if macs is None:
        macs, unit = totals.macs_per_token or 0.0, "token"
    lines = [
        ("parameters", f"{totals.params:,}"),
        ("as float32", f"{totals.size_mib:.2f} MiB"),
        ("as stored", f"{_by_type(totals.stored_mib)}; buffers: {_by_type(totals.buffers_mib)}"),
        (
            "as int8",
            f"{totals.int8_size_mib:.2f} MiB in memory, buffers and all, by ESPnet's dynamic "
            f"quantisation; {totals.int8_float_mib:.2f} MiB of it stay float",
        ),
        ("MACs", f"{macs:,.0f} per {unit}, quantised too: products of 8 bits then"),
        ("counted in", totals.macs_over),
    ]
    if totals.rtf is not None:
        lines.append(("RTF", f"{totals.rtf:.4f} in that pass, from the features on, one thread"))
    if is_compressed:
        lines.insert(
            1,
            (
                "compression",
                f"{totals.compression:.2f}, against itself with all factors multiplied out",
            ),
        )
    return "\n".join(f"{name:<11}  {value}" for name, value in lines)


def _by_type(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{mib:.2f} MiB {dtype}" for dtype, mib in sizes.items()) or "none"
