"""The tables of results: systems and sizes, forms of the final models, rounds, ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from espnet_shrink.plan.cost import BYTES_PER_PARAM
from espnet_shrink.report.layout import Table
from espnet_shrink.report.results import (
    Final,
    Measured,
    Results,
    RoundResult,
    Scored,
    Size,
)

NONE = "-"
BETTER = "*"
IN_PERCENT = ("wer", "cer")
FIRST = ("system", "compression", "params (M)", "size (MiB)", "MACs/s (M)")


def main_table(results: Results, sets: list[str], named: bool = True) -> Table:
    """Size, scores and RTF on `sets`: of baseline and control, and of what came of them.

    Of a single size that is every round and the final model, of several the model of each.

    Args:
        named: headers of scores name their set.
    """
    several = len(results.sizes) > 1
    return _of_sizes(results, sets, named) if several else _of_rounds(results, sets, named)


def _of_rounds(results: Results, sets: list[str], named: bool) -> Table:
    header = [*FIRST, *_score_headers(results, sets, named)]
    systems: list[tuple[str, Measured]] = [("baseline", results.baseline)]
    if results.control is not None:
        systems.append(("control", results.control))
    systems += [(round_name(r), r) for r in results.rounds]
    systems.append((final_name(results.final), results.final))
    rows = []
    for name, system in systems:
        row = _sizes(name, system)
        for set_name in sets:
            better = name == results.better_baseline(set_name)
            row += _scores(results, system, set_name, f" {BETTER}" if better else "")
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows), last_is_final=True)


def _of_sizes(results: Results, sets: list[str], named: bool) -> Table:
    """One row for baseline, control and model of each size, and what the model gained or lost."""
    header = list(FIRST)
    for name in sets:
        rate, *more = _score_headers(results, [name], named)
        header += [rate, f"difference {name}" if named else "difference", *more]
    systems: list[tuple[str, Measured | None, Size | None]] = [("baseline", results.baseline, None)]
    systems += [(control_name(s), s.control, None) for s in results.sizes if s.control is not None]
    systems += [(s.name, s.final, s) for s in results.sizes]
    rows = []
    for name, system, size in systems:
        row = [name, *[NONE] * (len(FIRST) - 1)] if system is None else _sizes(name, system)
        for set_name in sets:
            mark = f" {BETTER}" if name in _better(results, set_name) else ""
            rate, *more = _scores(results, system, set_name, mark)
            difference = NONE
            if size is not None and size.final is not None:
                difference = f"{against_the_better(results, size, set_name):+.2f}"
            row += [rate, difference, *more]
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def _better(results: Results, name: str) -> set[str]:
    """The names of the uncompressed models that the sizes are held against on the set `name`."""
    return {
        control_name(size) if results.better_baseline(name, size) == "control" else "baseline"
        for size in results.sizes
    }


def against_the_better(results: Results, size: Size, name: str) -> float:
    """Score of the final model on the set `name`, less that of the better uncompressed one."""
    control = size.control if results.better_baseline(name, size) == "control" else None
    before = (control or results.baseline).values(results.metric)[name]
    return results.final_of(size).values(results.metric)[name] - before


def _sizes(name: str, system: Measured) -> list[str]:
    compression = system.compression if isinstance(system, (RoundResult, Final)) else 1.0
    row = [name, f"{compression:.2f}", f"{system.params / 1e6:.3f}", f"{system.size_mib:.2f}"]
    return [*row, f"{system.macs_per_audio_second / 1e6:.1f}"]


def variants_table(results: Results, sets: list[str], named: bool = True) -> Table:
    """The final models in other forms: on disk, in memory, scores and RTF; as `main_table`."""
    header = ["final model as", "disk (MiB)", "memory (MiB)"]
    header += _score_headers(results, sets, named)
    rows = []
    for form, size_mib, memory_mib, variant in _forms(results):
        row = [form, f"{size_mib:.2f}", f"{memory_mib:.2f}"]
        for name in sets:
            row += _scores(results, variant, name)
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def _forms(results: Results) -> Iterator[tuple[str, float, float, Scored]]:
    """Name, MiB on disk and in memory, and scores, of the sizes that have other forms."""
    for size in results.sizes:
        variants = [v for v in results.variants if v.target == size.target]
        of_size = f"{size.name}, " if len(results.sizes) > 1 else ""
        if variants:
            final = results.final_of(size)
            in_memory_mib = final.params * BYTES_PER_PARAM / 2**20
            is_float = math.isclose(final.size_mib, in_memory_mib)
            name = f"{of_size}{'float32' if is_float else 'as it is'} (torch)"
            yield name, final.size_mib, in_memory_mib, final
        for v in variants:
            yield of_size + v.name, v.size_mib, v.memory_mib, v


def rounds_table(results: Results) -> Table:
    """What each round aimed at and reached, and the score on dev it was judged by."""
    header = ["round", "target", "reached", "searcher", "plans scored", "epochs"]
    label = metric_label(results.metric)
    header += [f"dev {label}", "limit" + label.removeprefix(results.metric.upper())]
    header += [f"{label} {name} before retraining" for name in results.sets]
    rows = []
    for size in results.sizes:
        of_size = f"{size.name}, " if len(results.sizes) > 1 else ""
        for r in size.rounds:
            row = [of_size + round_name(r), f"{r.target_compression:.2f}", f"{r.compression:.2f}"]
            row += [r.searcher, str(r.search_evaluations), str(r.epochs)]
            row += [f"{r.dev:.2f}", f"{r.dev_limit:.2f}"]
            row += [_number(r.before_retraining, name, ".2f") for name in results.sets]
            rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def rank_table(results: Results) -> Table:
    """The rank that was kept at every site: by every round, or in the model of every size."""
    if len(results.sizes) == 1:
        columns = [(round_name(r), r) for r in results.rounds]
    else:
        columns = chosen_rounds(results)
    full_ranks = {site: full for _, r in columns for site, full in r.full_ranks.items()}
    header = ("site", "full rank", *(name for name, _ in columns))
    rows = [
        (site, str(full), *(str(r.ranks.get(site, NONE)) for _, r in columns))
        for site, full in full_ranks.items()
    ]
    return Table(header, tuple(rows))


def chosen_rounds(results: Results) -> list[tuple[str, RoundResult]]:
    """The round of the final model of each size that has one, under the size's name."""
    return [
        (size.name, r)
        for size in results.sizes
        for r in size.accepted
        if size.final is not None and r.round == size.final.round
    ]


def uncompressed_table(results: Results) -> Table:
    """The parameters that were not candidates for compression, and why."""
    rows = tuple((each.name, each.reason) for each in results.uncompressed)
    return Table(("parameter", "reason"), rows, numeric=False)


def round_name(r: RoundResult) -> str:
    """`round 2`, or `round 2 (rolled back)`."""
    return f"round {r.round}" + (" (rolled back)" if r.status == "rolled_back" else "")


def final_name(final: Final) -> str:
    """`final (round 3)`, or `final (baseline)` if no round was accepted."""
    return f"final (round {final.round})" if final.round else "final (baseline)"


def control_name(size: Size) -> str:
    """`control 5x`: the control of one of several sizes."""
    return f"control {size.name}"


def metric_label(metric: str) -> str:
    """`WER %`, `PPL`."""
    return metric.upper() + (" %" if metric in IN_PERCENT else "")


def _score_headers(results: Results, sets: list[str], named: bool) -> list[str]:
    """Headers of what `_scores` gives of every set."""
    headers = []
    decides, *others = metrics_of(results)
    for name in sets:
        of_set = f" {name}" if named else ""
        headers.append(f"{metric_label(decides)}{of_set} [95 %]")
        headers += [f"{metric_label(metric)}{of_set}" for metric in others]
        headers.append(f"RTF{of_set}")
    return headers


def _scores(results: Results, system: Scored | None, name: str, mark: str = "") -> list[str]:
    """Cells of the deciding score with its interval, the other scores, and RTF."""
    _, *others = metrics_of(results)
    if system is None:
        return [NONE] * (len(others) + 2)
    more = [_number(system.values(metric), name, ".2f") for metric in others]
    rate = with_interval(results, system, name) + mark
    return [rate, *more, _number(system.rtf, name, ".3f")]


def metrics_of(results: Results) -> list[str]:
    """What was scored; first what decides."""
    decides = results.metric
    return [decides, *(metric for metric in results.baseline.scores if metric != decides)]


def with_interval(results: Results, system: Scored, name: str) -> str:
    """The deciding score on the set `name`: `2.50 [2.00, 3.00]`."""
    rate = _number(system.values(results.metric), name, ".2f")
    intervals = system.intervals(results.metric)
    if name not in intervals:
        return rate
    low, high = intervals[name]
    return f"{rate} [{low:.2f}, {high:.2f}]"


def _number(values: Mapping[str, float], name: str, form: str) -> str:
    return format(values[name], form) if name in values else NONE
