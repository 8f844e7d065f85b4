"""How a table fits the width of a printed page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from phasewise.report import text
from phasewise.report.content import Column, Table

LINE = 85
"""Characters that fit beside each other on a page at 10 pt."""

BETWEEN = 2
"""Characters that the space between two columns is wide."""

CHARACTER = 0.64
"""Width of a character as a part of its size: of bold digits in a wide sans-serif face."""

PADDING = 6.0
"""Points beside the text of a cell, left and right together."""

LARGEST, SMALLEST = 8.5, 4.5
"""Points of the type in tables."""

WIDEST = 28
"""Characters beyond which a cell has several lines."""

Rows = Sequence[Sequence[str]]


def cells_of(table: Table) -> list[list[str]]:
    """Its rows as texts."""
    return [
        [text.cell(cell, column.kind) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def column_parts(columns: Sequence[Column], widths: Sequence[int]) -> Iterator[list[int]]:
    """Which columns stand beside each other on a page, where not all of them can.

    Each part begins with the columns that name a row, unless they take half of a page.

    Args:
        columns: of a table.
        widths: of each in characters, with the space behind it.
    """
    named = len([*takewhile(lambda column: not column.is_numeric, columns)])
    first = [*range(named)]
    start = sum(widths[:named])
    if start > LINE / 2:
        yield [*range(len(columns))]
        return
    part, used = [*first], start
    for i in range(named, len(columns)):
        if used + widths[i] > LINE and part != first:
            yield part
            part, used = [*first], start
        part.append(i)
        used += widths[i]
    yield part


def wrapped_widths(titles: Sequence[str], rows: Rows) -> list[int]:
    """Characters of each column, with one to spare, if what is long has several lines, but no word
    is cut."""
    found = []
    for i, title in enumerate(titles):
        cells = [row[i] for row in rows]
        words = (len(word) for cell in [title, *cells] for word in cell.split())
        found.append(1 + max(max(words, default=1), min(WIDEST, max(map(len, cells), default=1))))
    return found


def type_size(widths: Sequence[int], room: float) -> float:
    """Points of the type with which columns of ``widths`` characters fit ``room`` points."""
    fitting = (room - PADDING * len(widths)) / (CHARACTER * sum(widths))
    return max(SMALLEST, min(LARGEST, fitting))
