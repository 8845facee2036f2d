"""The final model of the rounds, packed with its card, report and plots."""

from __future__ import annotations

from pathlib import Path

from espnet_shrink.compat.tasks import task_of
from espnet_shrink.core.files import read_yaml
from espnet_shrink.export.pack import Packed, pack
from espnet_shrink.report.card import Base, card, license_of
from espnet_shrink.report.results import Results
from espnet_shrink.sources import Source

REPORT = ("RESULTS.md", "results.json", "wer.png", "ranks.png")


def release(small: Source, results: Results, base: Source, report: Path, archive: Path) -> Packed:
    """Write `archive`: the model `small`, its card, and what `report` holds of the report.

    Args:
        small: the compressed model; its config carries the plan.
        base: the model it was made from.
        report: folder of results.json and its kin; what is not there is left out.
    """
    config = read_yaml(small.config)
    plan = config["adapter_conf"]
    task = task_of(config, small.config)
    documents: dict[str, str | Path] = {
        path.name: path for path in (report / name for name in REPORT) if path.exists()
    }
    for path in base.documents:
        documents[f"base_{path.name}"] = path
    documents["README.md"] = card(
        results,
        Base(base.origin, plan["base_hash"], license_of(base.documents)),
        plan["ranks"],
        archive.name,
        task.inference,
    )
    return pack(small, archive, documents)
