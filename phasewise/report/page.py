"""A report as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from phasewise.report import text
from phasewise.report.content import Block, Report, Section, Table
from phasewise.report.files import Image
from phasewise.report.layout import cells_of, type_size, wrapped_widths

LONG = 60
"""Rows beyond which a table is folded up on the page."""

WIDE = 8
"""Columns beyond which the first stays in sight while the others scroll."""


PRINTED = 510.0
"""Points between the margins of a printed page, see `templates/report.css.j2`."""


def html(report: Report, images: Mapping[str, Image], refresh: int | None = None) -> str:
    """The page; ``refresh`` makes a browser load it anew after so many seconds."""
    page = _templates().get_template("report.html.j2")
    return page.render(_context(report, images), refresh=refresh, long=LONG, wide=WIDE)


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
    templates.filters |= {"cell": text.cell, "md": text.escape_markdown, "sizes": _sizes}
    return templates


def _sizes(table: Table) -> str:
    """For the style sheet: the size of a table's type on paper, and how wide its first column is.

    A first column that stays in sight while the others scroll would shrink to single letters.
    """
    widths = wrapped_widths([column.title for column in table.columns], cells_of(table))
    return f"--printed: {type_size(widths, PRINTED):.1f}pt; --first: {widths[0]}ch"
