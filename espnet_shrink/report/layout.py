"""Tables of text, as Markdown and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass


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


def escape(text: str) -> str:
    """One line of text in which nothing is Markdown."""
    for character in "\\|*<`":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [[escape(cell) for cell in row] for row in (table.header, *table.rows)]
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
