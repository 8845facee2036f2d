"""All files of a report, from one Results."""

from __future__ import annotations

from pathlib import Path

from espnet_shrink.files import write_text
from espnet_shrink.report.page import report_html
from espnet_shrink.report.results import Results, save
from espnet_shrink.report.tables import results_md


def write_report(results: Results, out: Path) -> Path:
    """Write results.json, RESULTS.md, report.html and its plots to `out`; gives the page."""
    save(results, out / "results.json")
    write_text(out / "RESULTS.md", results_md(results))
    return report_html(results, out)
