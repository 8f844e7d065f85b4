"""How a table fits the width of a printed page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from phasewise.report import text
from phasewise.report.content import Column, Table

LINE = 85
"""Characters that fit beside each other on a page at 10 pt."""

NAMES = 0.6
"""Most of a line that columns which name a row may take where a table is split."""

BETWEEN = 2
"""Characters that the space between two columns is wide."""

CHARACTER = 0.64
"""Width of a character as a part of its size: of bold digits in a wide sans-serif face."""

PADDING = 6.0
"""Points beside the text of a cell, left and right together."""

LARGEST, SMALLEST = 8.5, 4.5
"""Points of the type in tables."""

READABLE = 7.0
"""Points of type below which columns become narrower, and then a table is split."""

WIDEST = (28, 16)
"""Characters beyond which a cell has several lines; the second where there is little room."""

LONGEST = 30
"""Characters beyond which a word is cut."""

SHORT = 8
"""Rows up to which a table stays on one page."""

DOT = r"(?<=[a-z]\.)(?=[A-Za-z_])"
"""Behind the dots of a key, or of a class with its module."""

BREAK = re.compile(rf" +|(?<=[/,=])|{DOT}")
"""Where a cell may go on in another line."""

Rows = Sequence[Sequence[str]]


def cells_of(table: Table) -> list[list[str]]:
    """Its rows as texts."""
    return [
        [text.cell(cell, column.kind) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


@dataclass(frozen=True)
class Part:
    """Columns of a table that stand beside each other on paper.

    Attributes:
        columns: their indices.
        widths: of each in characters.
        size: points of the type with which they fit.
    """

    columns: Sequence[int]
    widths: Sequence[int]
    size: float


def parts_on_paper(columns: Sequence[Column], rows: Rows, room: float) -> list[Part]:
    """A table as it fits ``room`` points: whole if it can be read, else in parts."""
    widths: list[int] = []
    for widest in WIDEST:
        widths = wrapped_widths(columns, rows, widest)
        size = type_size(widths, room)
        if size >= READABLE:
            return [Part(range(len(columns)), widths, size)]
    spaced = [width + BETWEEN for width in widths]
    least = int(sum(spaced[: _named(columns)]) / NAMES) + 1
    most = int(room / (CHARACTER * READABLE))
    parts = [*column_parts(columns, spaced, most)]
    for line in range(least, most):  # parts of about the same width
        if len(even := [*column_parts(columns, spaced, line)]) == len(parts):
            parts = even
            break
    owns = [[widths[i] for i in part] for part in parts]
    return [Part(part, own, type_size(own, room)) for part, own in zip(parts, owns, strict=True)]


def points_of(part: Part, rows: Rows, room: float) -> list[float]:
    """The widths of its columns in points.

    What ``room`` has left goes to those whose cells have several lines.

    Args:
        part: of a table.
        rows: what is in it, its titles too.
        room: points that it may be wide.
    """
    character = CHARACTER * part.size
    widths = [character * count + PADDING for count in part.widths]
    scale = min(1.0, room / sum(widths))
    whole = [1 + max(map(len, column)) for column in zip(*rows, strict=True)]
    lack = [character * max(0, w - count) for w, count in zip(whole, part.widths, strict=True)]
    share = min(1.0, max(0.0, room - sum(widths)) / (sum(lack) or 1.0))
    return [width * scale + more * share for width, more in zip(widths, lack, strict=True)]


def _named(columns: Sequence[Column]) -> int:
    """How many columns name a row: the texts that it begins with, behind a number if it has one."""
    number = len(columns) > 1 and columns[0].is_numeric and not columns[1].is_numeric
    texts = takewhile(lambda column: not column.is_numeric, columns[number:])
    return number + len([*texts])


def column_parts(
    columns: Sequence[Column], widths: Sequence[int], line: int = LINE
) -> Iterator[list[int]]:
    """Which columns stand beside each other on a page, where not all of them can.

    Each part begins with the columns that name a row, as many as do not take too much of a page:
    rows have the same order in all parts.

    Args:
        columns: of a table.
        widths: of each in characters, with the space behind it.
        line: characters that fit beside each other.
    """
    named = _named(columns)
    while named > 1 and sum(widths[:named]) > line * NAMES:
        named -= 1
    first = [*range(named)]
    start = sum(widths[:named])
    if start > line * NAMES:
        yield [*range(len(columns))]
        return
    part, used = [*first], start
    for i in range(named, len(columns)):
        if used + widths[i] > line and part != first:
            yield part
            part, used = [*first], start
        part.append(i)
        used += widths[i]
    yield part


def wrapped_widths(columns: Sequence[Column], rows: Rows, widest: int) -> list[int]:
    """Characters of each column, with one to spare.

    Texts have several lines beyond ``widest`` characters, but no word is cut that is not very
    long; numbers have one line.
    """
    found = []
    for i, column in enumerate(columns):
        cells = [row[i] for row in rows]
        words = {column.title} if column.is_numeric else {column.title, *cells}
        word = max((_length(part) for text in words for part in BREAK.split(text)), default=1)
        line = max(map(len, cells), default=1)
        found.append(1 + max(min(LONGEST, word), line if column.is_numeric else min(widest, line)))
    return found


def _length(word: str) -> int:
    """Its characters; two wide ones take the room of three.

    >>> _length("memory"), _length("metric")
    (7, 6)
    """
    return len(word) + sum(word.count(wide) for wide in "mwMW") // 2


def type_size(widths: Sequence[int], room: float) -> float:
    """Points of the type with which columns of ``widths`` characters fit ``room`` points."""
    fitting = (room - PADDING * len(widths)) / (CHARACTER * sum(widths))
    return max(SMALLEST, min(LARGEST, fitting))
