"""Results as documents: RESULTS.md in ESPnet's habit, and plain text for the terminal."""

from __future__ import annotations

from espnet_shrink.report.layout import aligned, escape, markdown
from espnet_shrink.report.results import Results
from espnet_shrink.report.tables import (
    main_table,
    metrics_of,
    rank_table,
    rounds_table,
    uncompressed_table,
    variants_table,
)
from espnet_shrink.report.verdicts import VARIANTS_NOTE, notes, verdicts

PARETO = "pareto.png"
"""Where RESULTS.md finds the plot of several sizes."""


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
                *(f"- {what}: `{exp}`" for what, exp in final_models(results)),
            ]
        ),
        f"## {', '.join(m.upper() for m in metrics_of(results))}, RTF",
        markdown(main_table(results, results.sets)),
        "\n".join(f"- {escape(note)}" for note in notes(results)),
    ]
    if len(results.sizes) > 1:
        parts.append(f"![{results.metric.upper()} against parameters]({PARETO})")
    parts.append("\n\n".join(map(escape, verdicts(results))))
    if results.variants:
        parts += ["## The final model in other forms"]
        parts += [markdown(variants_table(results, results.sets)), VARIANTS_NOTE]
    if any(size.rounds for size in results.sizes):
        parts += ["## Rounds", markdown(rounds_table(results))]
        parts += ["## Rank of each site", markdown(rank_table(results))]
    if results.uncompressed:
        parts += ["## Not compressed", markdown(uncompressed_table(results))]
    if results.commands:
        parts += ["## Commands", "\n".join(["```sh", *results.commands, "```"])]
    return "\n\n".join(parts) + "\n"


def final_models(results: Results) -> list[tuple[str, str]]:
    """What to call each final model, and its folder; of several sizes only those that have one."""
    if len(results.sizes) == 1:
        return [("final model", results.final.exp)]
    return [
        (f"{size.name} model", size.final.exp) for size in results.sizes if size.final is not None
    ]


def results_text(results: Results) -> str:
    """The main table for the terminal, one per set (at most 110 columns), with the verdict."""
    parts = []
    for name in results.sets:
        # The set is named once above the table: its columns need not repeat it.
        table = main_table(results, [name], named=False)
        parts.append(f"{results.corpus}, {name}\n" + aligned(table))
        if results.variants:
            forms = variants_table(results, [name], named=False)
            parts.append(aligned(forms, 3) + f"\n{VARIANTS_NOTE}")
    parts.append("\n".join(notes(results)))
    parts += verdicts(results)
    return "\n\n".join(parts) + "\n"
