"""Results as tables: RESULTS.md in ESPnet's habit, and plain text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from espnet_shrink.plan.cost import BYTES_PER_PARAM
from espnet_shrink.report.results import (
    Final,
    Measured,
    Results,
    Round,
    Variant,
    intervals,
    rates,
)

NONE = "-"
BETTER = "*"
VARIANTS_NOTE = (
    "Greedy rows are to be held against each other, not against the beam search of the others. "
    "Memory is that of the weights. RTFs compare only if the machine was equally idle for each."
)

UNSPACED_NOTE = (
    "The texts are written without spaces: there are no words, and CER decides; spaces between "
    "characters of such scripts do not count."
)


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        header: one cell per column.
        rows: cells of each row; the first is its name.
        last_is_final: the last row is the one that counts, and is set in bold.
        numeric: the columns after the first hold numbers.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    last_is_final: bool = False
    numeric: bool = True


def main_table(results: Results, sets: list[str]) -> Table:
    """Baseline, control, every round and the final model: size, errors and RTF on `sets`."""
    header = ["system", "compression", "params (M)", "size (MiB)", "MACs/s (M)"]
    header += [column for name in sets for column in _score_header(results, name)]
    systems: list[tuple[str, Measured]] = [("baseline", results.baseline)]
    if results.control is not None:
        systems.append(("control", results.control))
    systems += [(round_name(r), r) for r in results.rounds]
    systems.append((final_name(results.final), results.final))

    rows = []
    for name, system in systems:
        compression = system.compression if isinstance(system, (Round, Final)) else 1.0
        row = [name, f"{compression:.2f}", f"{system.params / 1e6:.3f}", f"{system.size_mib:.2f}"]
        row.append(f"{system.macs_per_audio_second / 1e6:.1f}")
        for set_name in sets:
            better = name == results.better_baseline(set_name)
            row += _scores(results, system, set_name, f" {BETTER}" if better else "")
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows), last_is_final=True)


def variants_table(results: Results, sets: list[str]) -> Table:
    """The final model in other forms: size on disk and in memory, errors and RTF on `sets`."""
    header = ["final model as", "disk (MiB)", "memory (MiB)"]
    header += [column for name in sets for column in _score_header(results, name)]
    final = results.final
    in_memory_mib = final.params * BYTES_PER_PARAM / 2**20
    name = "float32 (torch)" if math.isclose(final.size_mib, in_memory_mib) else "as it is (torch)"
    forms: list[tuple[str, float, float, Measured | Variant]] = [
        (name, final.size_mib, in_memory_mib, final)
    ]
    forms += [(v.name, v.size_mib, v.memory_mib, v) for v in results.variants]
    rows = []
    for form, size_mib, memory_mib, variant in forms:
        row = [form, f"{size_mib:.2f}", f"{memory_mib:.2f}"]
        for name in sets:
            row += _scores(results, variant, name)
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def rounds_table(results: Results) -> Table:
    """What each round aimed at and reached, and the error rate on dev it was judged by."""
    header = ["round", "target", "reached", "searcher", "plans scored", "epochs"]
    rate = results.metric.upper()
    header += [f"dev {rate} %", "limit %"]
    header += [f"{rate} % {name} before retraining" for name in results.sets]
    rows = []
    for r in results.rounds:
        row = [round_name(r), f"{r.target_compression:.2f}", f"{r.compression:.2f}", r.searcher]
        row += [str(r.search_evaluations), str(r.epochs)]
        row += [f"{r.dev_wer:.2f}", f"{r.dev_wer_limit:.2f}"]
        row += [_number(r.wer_before_retraining, name, ".2f") for name in results.sets]
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def rank_table(results: Results) -> Table:
    """The rank every round kept at every site."""
    full_ranks = {site: full for r in results.rounds for site, full in r.full_ranks.items()}
    header = ("site", "full rank", *(round_name(r) for r in results.rounds))
    rows = [
        (site, str(full), *(str(r.ranks.get(site, NONE)) for r in results.rounds))
        for site, full in full_ranks.items()
    ]
    return Table(header, tuple(rows))


def uncompressed_table(results: Results) -> Table:
    """The parameters that were not candidates for compression, and why."""
    rows = tuple((each.name, each.reason) for each in results.uncompressed)
    return Table(("parameter", "reason"), rows, numeric=False)


def round_name(r: Round) -> str:
    """`round 2`, or `round 2 (rolled back)`."""
    return f"round {r.round}" + (" (rolled back)" if r.status == "rolled_back" else "")


def final_name(final: Final) -> str:
    """`final (round 3)`, or `final (baseline)` if no round was accepted."""
    return f"final (round {final.round})" if final.round else "final (baseline)"


def verdict(results: Results, name: str) -> str:
    """One paragraph: the better uncompressed model on the set `name`, and the final one to it."""
    which = results.better_baseline(name)
    best = results.baseline if which == "baseline" else results.control
    assert best is not None
    final = results.final
    low, high = intervals(best, results.metric)[name]
    before, after = (rates(system, results.metric)[name] for system in (best, final))
    difference = after - before
    relative = f", {100 * difference / before:+.1f} % relative" if before else ""
    where = "within" if low <= after <= high else "below"
    if after > high:
        where = "above"
    rate = results.metric.upper()
    rival = " (no control was trained)" if results.control is None else ""
    return (
        f"{name}: the better uncompressed model is the {which}{rival}: {rate} "
        f"{_with_interval(results, best, name)}. "
        f"The final model, {final.compression:.2f} times smaller, has "
        f"{_with_interval(results, final, name)} "
        f"({difference:+.2f} absolute{relative}), {where} the {which}'s 95 % interval."
    )


def notes(results: Results) -> list[str]:
    """What a reader of the main table has to know."""
    control = "the baseline trained for as many extra epochs as the rounds"
    return [
        "Compression counts every parameter of the model; MACs/s are per second of audio.",
        f"{results.metric.upper()} intervals: 95 %, bootstrap over utterances.",
        *([UNSPACED_NOTE] if results.metric == "cer" else []),
        *(f"{each.name} has no row: {each.reason}." for each in results.left_out),
        f"{BETTER} the better of baseline and control ({control})."
        if results.control
        else f"{BETTER} the baseline; no control ({control}) was trained.",
    ]


def results_md(results: Results) -> str:
    """RESULTS.md: environment, main table, verdict, rounds, ranks, what was not compressed."""
    versions = results.versions
    parts = [
        "# RESULTS",
        "## Environments",
        "\n".join(
            [
                f"- python version: `{versions.python}`",
                f"- espnet version: `espnet {versions.espnet}`",
                f"- espnet_shrink version: `espnet_shrink {versions.espnet_shrink}`",
                f"- pytorch version: `pytorch {versions.torch}`",
                f"- corpus: `{results.corpus}`, seed: `{results.seed}`",
                f"- final model: `{results.final.exp}`",
            ]
        ),
        "## CER, RTF" if results.metric == "cer" else "## WER, CER, RTF",
        markdown(main_table(results, results.sets)),
        "\n".join(f"- {_escape(note)}" for note in notes(results)),
        "\n\n".join(_escape(verdict(results, name)) for name in results.sets),
    ]
    if results.variants:
        parts += ["## The final model in other forms"]
        parts += [markdown(variants_table(results, results.sets)), VARIANTS_NOTE]
    if results.rounds:
        parts += ["## Rounds", markdown(rounds_table(results))]
        parts += ["## Rank of each site", markdown(rank_table(results))]
    if results.uncompressed:
        parts += ["## Not compressed", markdown(uncompressed_table(results))]
    if results.commands:
        parts += ["## Commands", "\n".join(["```sh", *results.commands, "```"])]
    return "\n\n".join(parts) + "\n"


def results_text(results: Results) -> str:
    """The main table for the terminal, one per set (at most 110 columns), with the verdict."""
    parts = []
    for name in results.sets:
        table = main_table(results, [name])
        # The set is named once above the table: its columns need not repeat it.
        scores = _score_header(results)
        header = (*table.header[:5], *scores)
        parts.append(f"{results.corpus}, {name}\n" + aligned(Table(header, table.rows)))
        if results.variants:
            forms = variants_table(results, [name])
            short = (*forms.header[:3], *scores)
            parts.append(aligned(Table(short, forms.rows), 3) + f"\n{VARIANTS_NOTE}")
    parts.append("\n".join(notes(results)))
    parts += [verdict(results, name) for name in results.sets]
    return "\n\n".join(parts) + "\n"


def _score_header(results: Results, name: str = "") -> list[str]:
    """Headers of what `_scores` gives; texts without spaces have no words to count errors in."""
    rate, name = results.metric.upper(), f" {name}" if name else ""
    more = [] if results.metric == "cer" else [f"CER %{name}"]
    return [f"{rate} %{name} [95 %]", *more, f"RTF{name}"]


def _scores(results: Results, system: Measured | Variant, name: str, mark: str = "") -> list[str]:
    more = [] if results.metric == "cer" else [_number(system.cer, name, ".2f")]
    rate = _with_interval(results, system, name) + mark
    return [rate, *more, _number(system.rtf, name, ".3f")]


def _with_interval(results: Results, system: Measured | Variant, name: str) -> str:
    rate = _number(rates(system, results.metric), name, ".2f")
    if name not in intervals(system, results.metric):
        return rate
    low, high = intervals(system, results.metric)[name]
    return f"{rate} [{low:.2f}, {high:.2f}]"


def _number(values: Mapping[str, float], name: str, form: str) -> str:
    return format(values[name], form) if name in values else NONE


def _escape(text: str) -> str:
    for character in "\\|*<`":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [[_escape(cell) for cell in row] for row in (table.header, *table.rows)]
    if table.last_is_final:
        lines[-1] = [f"**{cell}**" for cell in lines[-1]]
    rule = ["---"] + ["---:" if table.numeric else "---"] * (len(table.header) - 1)
    return "\n".join("|" + "|".join(cells) + "|" for cells in [lines[0], rule, *lines[1:]])


def aligned(table: Table, left: int = 5) -> str:
    """For the terminal; the first column and column `left` are set to the left."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    text = [
        "  ".join(
            # The mark of the better baseline hangs to the right: the numbers above it line up.
            cell.ljust(width) if column in (0, left) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * len(widths) - 2), *text[1:]])


def shorten(name: str, longest: int = 44) -> str:
    """Cut the middle out of a long name: its start and end tell sites apart."""
    if len(name) <= longest:
        return name
    return name[: longest // 2] + "…" + name[-(longest // 2 - 1) :]
