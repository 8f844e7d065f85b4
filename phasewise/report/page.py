"""A report as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from phasewise.report import text
from phasewise.report.content import Block, Report, Section, Table
from phasewise.report.files import Image
from phasewise.report.layout import (
    DOT,
    SHORT,
    WIDEST,
    Part,
    cells_of,
    parts_on_paper,
    type_size,
    wrapped_widths,
)

LONG = 60
"""Rows beyond which a table is folded up on the page."""

WIDE = 8
"""Columns beyond which the first stays in sight while the others scroll."""


MANY_WORDS = 16
"""Characters beyond which a text with spaces is a sentence."""

LONG_WORD = 40
"""Characters beyond which a text without spaces, a directory, needs room too."""

MOST_SPLIT = 200
"""Rows beyond which a table is not split on paper."""

_DOT = re.compile(DOT)
_BREAK = re.compile(rf"(?<=[/,=])|{_DOT.pattern}")

PRINTED = 510.0
"""Points between the margins of a printed page, see `templates/report.css.j2`."""


def html(report: Report, images: Mapping[str, Image], refresh: int | None = None) -> str:
    """The page; ``refresh`` makes a browser load it anew after so many seconds."""
    page = _templates().get_template("report.html.j2")
    return page.render(_context(report, images), refresh=refresh, long=LONG, wide=WIDE, short=SHORT)


def markdown(report: Report, images: Mapping[str, Image], formats: Sequence[str] = ()) -> str:
    """The same in Markdown, whose images are the files of the folder.

    ``formats`` are the endings of other files that hold the same report.
    """
    page = _templates().get_template("report.md.j2")
    return page.render(_context(report, images), formats=formats)


def blocks(sections: list[Section]) -> Iterator[Block]:
    """All of them, in order."""
    for section in sections:
        yield from section.blocks
        yield from blocks(section.parts)


def _context(report: Report, images: Mapping[str, Image]) -> dict[str, object]:
    return {"report": report, "images": images, "rounding": text.ROUNDING}


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and ".html." in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "cell": text.cell,
        "md": text.escape_markdown,
        "parts": _parts,
        "has_words": _has_words,
        "has_paths": _has_paths,
        "breaks": _breaks,
        "dots": _dots,
        "joined": text.joined,
        "names": _names,
    }
    return templates


def _parts(table: Table) -> list[Part]:
    """How it is shown on paper; a very long one is not shown twice."""
    cells = cells_of(table)
    parts = parts_on_paper(table.columns, cells, PRINTED)
    if len(parts) == 1 or len(cells) <= MOST_SPLIT:
        return parts
    widths = wrapped_widths(table.columns, cells, WIDEST[-1])
    return [Part(range(len(widths)), widths, type_size(widths, PRINTED))]


def _has_words(table: Table, column: int) -> bool:
    """Whether a column holds sentences, which need room beside columns of numbers."""
    if column == 0 or table.columns[column].is_numeric:
        return False
    return any(len(str(row[column])) > MANY_WORDS and " " in str(row[column]) for row in table.rows)


def _has_paths(table: Table, column: int) -> bool:
    """Whether a column holds long words, which would make a row high where they have no room.

    Long overrides are such words, though there is a space between them.
    """
    if column == 0 or table.columns[column].is_numeric:
        return False
    texts = [str(row[column]) for row in table.rows]
    return any(
        len(text) > LONG_WORD and all("=" in word for word in text.split(" ")[1:]) for text in texts
    )


def _dots(title: str) -> Markup:
    """The title of a column that may go on in another line behind the dots of a key."""
    return Markup("<wbr>").join(_DOT.split(title))


def _breaks(content: str) -> Markup:
    """Text that may go on in another line within a long word: a path, overrides."""
    if len(content) <= MANY_WORDS:
        return escape(text.joined(content))
    return Markup("<wbr>").join(_BREAK.split(text.joined(content)))


def _names(content: str) -> Markup:
    """Text that may go on in another line within a name, behind its underscores."""
    return Markup("<wbr>").join(re.split("(?<=_)", content))
