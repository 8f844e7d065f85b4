"""Tables as files: CSV, unrounded, and LaTeX that fits a page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from phasewise.report import text
from phasewise.report.content import Column, Table
from phasewise.report.layout import BETWEEN, LINE, Rows, cells_of, column_parts
from phasewise.text import csv_text

LONG = 40
"""Rows beyond which a LaTeX table goes on on the next page."""


def to_csv(table: Table) -> str:
    """Unrounded; a ``spread`` or ``interval`` takes two columns."""
    lines: list[list[object]] = [
        [title for column in table.columns for title in _csv_titles(column)]
    ]
    for row in table.rows:
        cells = zip(row, table.columns, strict=True)
        lines.append([part for cell, column in cells for part in _csv_cells(cell, column)])
    return csv_text(lines)


def _csv_titles(column: Column) -> list[str]:
    ends = {"spread": (" mean", " std"), "interval": (" low", " high"), "duration": (" [s]",)}
    return [column.title + end for end in ends.get(column.kind, ("",))]


def _csv_cells(cell: object, column: Column) -> list[object]:
    if column.kind in ("spread", "interval"):
        pair = cell if isinstance(cell, tuple) else (None, None)
        return ["" if text.is_missing(part) else part for part in pair]
    if text.is_missing(cell):
        return [""]
    if column.kind == "count":
        return [text.whole(cell)]
    return [text.plain(cell) if column.kind == "text" else cell]


def to_latex(table: Table) -> str:
    r"""Rounded, for ``\usepackage{booktabs}``; long tables for ``\usepackage{longtable}`` too.

    One that is wider than a page is split into parts that each begin with the columns that name a
    row. What is too wide still, or named too long for that, shrinks, for
    ``\usepackage{adjustbox}``.
    """
    cells = cells_of(table)
    widths = [
        max(len(column.title), *(len(row[i]) for row in cells), 1) + BETWEEN
        for i, column in enumerate(table.columns)
    ]
    parts = [
        _fitting(table.columns, cells, part, sum(widths[i] for i in part))
        for part in column_parts(table.columns, widths)
    ]
    return "\n\\medskip\n\n".join(parts)


def _fitting(columns: Sequence[Column], cells: Rows, part: Sequence[int], width: int) -> str:
    rows = [[row[i] for i in part] for row in cells]
    shown = [columns[i] for i in part]
    if width <= LINE:
        return _tabular(shown, rows, is_long=len(rows) > LONG)
    # what shrinks cannot break over pages
    chunks = [rows[i : i + LONG] for i in range(0, len(rows), LONG)] or [rows]
    boxes = [_tabular(shown, chunk, is_long=False) for chunk in chunks]
    begin, end = "\\begin{adjustbox}{max width=\\textwidth}\n", "\\end{adjustbox}\n"
    return "\n\\medskip\n\n".join(f"{begin}{box}{end}" for box in boxes)


def _tabular(columns: Sequence[Column], rows: Rows, *, is_long: bool) -> str:
    frame = pd.DataFrame(rows, columns=[column.title for column in columns], dtype=object)
    form = "".join("r" if column.is_numeric else "l" for column in columns)
    latex = frame.to_latex(index=False, escape=True, column_format=form, longtable=is_long)
    # in text, a minus is a hyphen and these two are other characters
    for character, command in (("±", r"$\pm$"), ("<", "$<$"), (">", "$>$"), ("…", r"\dots{}")):
        latex = latex.replace(character, command)
    return latex
