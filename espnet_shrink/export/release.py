"""The final model of a size, packed with its card, report and plots."""

from __future__ import annotations

from pathlib import Path

from espnet_shrink.compat.tasks import task_of
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.pack import Packed, pack
from espnet_shrink.methods.adapter import BASE, steps_of
from espnet_shrink.report.card import Base, card, license_of
from espnet_shrink.report.results import Results, Size
from espnet_shrink.sources import Source

REPORT = ("RESULTS.md", "results.json", "wer.png", "pareto.png", "ranks.png")


def release(small: Source, results: Results, base: Source, report: Path, archive: Path) -> Packed:
    """Write `archive`: the model `small`, its card, and what `report` holds of the report.

    Args:
        small: the compressed model; its config carries the plan, its folder says which size it is.
        base: the model it was made from.
        report: folder of results.json and its kin; what is not there is left out.

    Raises:
        ShrinkError: `results` are of several sizes, and it is the model of none of them.
    """
    size = _size_of(small, results, report)
    config = read_yaml(small.config)
    conf = config["adapter_conf"]
    amounts = {name: n for step in steps_of(conf) for name, n in step.plan.amounts.items()}
    task = task_of(config, small.config)
    documents: dict[str, str | Path] = {
        path.name: path for path in (report / name for name in REPORT) if path.exists()
    }
    for path in base.documents:
        documents[f"base_{path.name}"] = path
    documents["README.md"] = card(
        results,
        size,
        Base(base.origin, conf[BASE], license_of(base.documents)),
        amounts,
        archive.name,
        task.inference,
    )
    return pack(small, archive, documents)


def _size_of(small: Source, results: Results, report: Path) -> Size:
    if len(results.sizes) == 1:
        return results.smallest
    exps = {size.name: report / size.final.exp for size in results.sizes if size.final is not None}
    exp = small.config.parent
    for size in results.sizes:
        if size.name in exps and exps[size.name].resolve() == exp.resolve():
            return size
    raise ShrinkError(
        f"{exp} is no final model of {report / 'results.json'}: give one of "
        f"{', '.join(f'{path} ({name})' for name, path in exps.items())}"
    )
