"""All files of a report, from one Results."""

from __future__ import annotations

from pathlib import Path

from espnet_shrink.core.files import write_text
from espnet_shrink.report.documents import final_models, results_md, results_text
from espnet_shrink.report.page import report_html
from espnet_shrink.report.results import Results, save


def write_report(results: Results, out: Path) -> str:
    """Write results.json, RESULTS.md, report.html and its plots to `out`.

    Returns:
        What to tell the user: the table, and where all of it is.
    """
    save(results, out / "results.json")
    write_text(out / "RESULTS.md", results_md(results))
    page = report_html(results, out)
    models = ", ".join(str(out / exp) for _, exp in final_models(results)) or "none"
    return (
        f"{results_text(results)}\n"
        f"report: {page}, {out / 'RESULTS.md'}, {out / 'results.json'}\n"
        f"{'model: ' if len(results.sizes) == 1 else 'models:'} {models}"
    )
