"""What results come to, in sentences."""

from __future__ import annotations

from espnet_shrink.report.results import Results, Size
from espnet_shrink.report.tables import BETTER, with_interval

VARIANTS_NOTE = (
    "Greedy rows are to be held against each other, not against the beam search of the others. "
    "Memory is that of the weights. RTFs compare only if the machine was equally idle for each."
)
UNSPACED_NOTE = (
    "The texts are written without spaces: there are no words, and CER decides; spaces between "
    "characters of such scripts do not count."
)


def verdicts(results: Results) -> list[str]:
    """A paragraph for every size that has a model (or is the only one) and every set."""
    several = len(results.sizes) > 1
    sizes = [size for size in results.sizes if size.final is not None or not several]
    return [verdict(results, name, size) for size in sizes for name in results.sets]


def verdict(results: Results, name: str, size: Size | None = None) -> str:
    """One paragraph: the better uncompressed model on the set `name`, and the final one to it.

    Args:
        size: of the final model; by default the smallest.
    """
    size = size or results.smallest
    which = results.better_baseline(name, size)
    control = size.control if which == "control" else None
    best, final = control or results.baseline, results.final_of(size)
    low, high = best.intervals(results.metric)[name]
    before, after = (system.values(results.metric)[name] for system in (best, final))
    difference = after - before
    relative = f", {100 * difference / before:+.1f} % relative" if before else ""
    where = "within" if low <= after <= high else "below"
    if after > high:
        where = "above"
    what, model = name, "The final model"
    if len(results.sizes) > 1:
        what, model = f"{name}, {size.name}", "The model"
    rival = " (no control was trained)" if size.control is None else ""
    return (
        f"{what}: the better uncompressed model is the {which}{rival}: {results.metric.upper()} "
        f"{with_interval(results, best, name)}. "
        f"{model}, {final.compression:.2f} times smaller, has "
        f"{with_interval(results, final, name)} "
        f"({difference:+.2f} absolute{relative}), {where} the {which}'s 95 % interval."
    )


def notes(results: Results) -> list[str]:
    """What a reader of the main table has to know."""
    return [
        "Compression counts every parameter of the model; MACs/s are per second of audio.",
        f"{results.metric.upper()} intervals: 95 %, bootstrap over utterances.",
        *([UNSPACED_NOTE] if results.metric == "cer" else []),
        *(f"{each.name} has no row: {each.reason}." for each in results.left_out),
        *(_of_one_size(results) if len(results.sizes) == 1 else _of_sizes(results)),
    ]


def _of_one_size(results: Results) -> list[str]:
    control = "the baseline trained for as many extra epochs as the rounds"
    if results.control is None:
        return [f"{BETTER} the baseline; no control ({control}) was trained."]
    return [f"{BETTER} the better of baseline and control ({control})."]


def _of_sizes(results: Results) -> list[str]:
    said = [
        "Control: the baseline trained for as many extra epochs as the rounds of that size."
        if any(size.control for size in results.sizes)
        else "No control (the baseline trained for as many extra epochs) was trained.",
        "Difference: to the better of the baseline and the size's own control "
        f"({BETTER}: is the better for some size).",
    ]
    for size in results.sizes:
        if size.final is None:
            said.append(
                f"{size.name} has no model: no round (of {len(size.rounds)}) kept its dev "
                f"{results.metric.upper()} within the limit."
            )
        elif size.reached is False:
            said.append(f"{size.name} was not reached: it is {size.final.compression:.2f}x.")
    return said
