"""A report as a DOCX file: headings, tables and captions are Word's own.

python-docx is an extra: it is imported where it is used.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phasewise.report import text
from phasewise.report.content import (
    Block,
    Bullets,
    Column,
    Command,
    Figure,
    FindingBlock,
    Picture,
    Report,
    Section,
    Source,
    Table,
    Text,
)
from phasewise.report.files import Image
from phasewise.report.layout import (
    BREAK,
    PADDING,
    SHORT,
    Part,
    cells_of,
    parts_on_paper,
    points_of,
)

MM, POINT, PIXEL = 36000, 12700, 9525
"""In Word's unit of length; a pixel is one of 96 in an inch."""

PAGE, MARGIN = (210 * MM, 297 * MM), 20 * MM
WIDTH, HEIGHT = PAGE[0] - 2 * MARGIN, 215 * MM
"""Most that a figure takes of a page."""

ROOM = WIDTH / POINT
"""Points that a table may be wide."""

MOST_ROWS = 200
"""Of a table; nobody reads more of them in a document, and they take seconds to write."""

DEEPEST = 6
"""Level of headings."""

MARKED = {"best": "DAFBE1", "worst": "FFF1E5", "bad": "FFEBE9"}
HEAD = "F0F2F4"

LONG_WORD = 16
"""Characters of one that may have to be broken."""

ZERO_WIDTH_SPACE = "\u200b"

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML file can hold."""


def to_docx(report: Report, images: Mapping[str, Image], folder: Path) -> bytes:
    """The file's content.

    Args:
        report: what it consists of.
        images: its figures by name; their files lie below ``folder``.
        folder: of the report.
    """
    return _Writer(images, folder).write(report)


class _Writer:
    """One document, from its top to its end."""

    def __init__(self, images: Mapping[str, Image], folder: Path) -> None:
        import docx

        self.images = images
        self.folder = folder
        self.document = docx.Document()
        self.counts = {"Figure": 0, "Table": 0}
        _prepare(self.document)

    def write(self, report: Report) -> bytes:
        """Everything."""
        properties = self.document.core_properties
        properties.title, properties.author, properties.comments = clean(report.title), "", ""
        properties.created = properties.modified = datetime.now(UTC).replace(tzinfo=None)
        self.document.add_heading(clean(report.title), 0)
        for name, value in report.facts:
            self._paragraph(f"{name}: {value}", "List Bullet")
        self._paragraph(text.ROUNDING, "Note")
        for part in report.sections:
            self._section(part, 1)
        file = io.BytesIO()
        self.document.save(file)
        return file.getvalue()

    def _section(self, part: Section, level: int) -> None:
        self.document.add_heading(clean(part.title), min(level, DEEPEST))
        for block in part.blocks:
            self._block(block, level, first=block is part.blocks[0])
        for child in part.parts:
            self._section(child, level + 1)

    def _block(self, block: Block, level: int, *, first: bool) -> None:
        match block:
            case Text():
                style = {"note": "Note", "warning": "Warning"}.get(block.tone)
                keeps = first or block.text.endswith(":")  # what it announces is on the same page
                self._paragraph(block.text, style).paragraph_format.keep_with_next = keeps or None
            case Bullets():
                for item in block.items:
                    self._paragraph(breakable(item), "List Bullet")
            case Command():
                self._paragraph(block.text, "Code")
            case Source():
                self._paragraph(f"{block.caption} ({block.path}):", "Note")
                self._paragraph(block.text.rstrip(), "Code")
            case Table():
                self._caption("Table", block.caption).paragraph_format.keep_with_next = True
                self._table(block)
            case Figure() | Picture():
                self._image(block)
            case FindingBlock():
                self._finding(block, level)
            case _:
                raise TypeError(f"no way to write a {type(block).__name__}")

    def _paragraph(self, content: str, style: str | None = None) -> Any:
        content = content if style == "Code" else text.joined(content)
        return self.document.add_paragraph(clean(content), style)

    def _caption(self, kind: str, content: str) -> Any:
        """Numbered by a field, so that Word can list figures and tables."""
        self.counts[kind] += 1
        paragraph = self.document.add_paragraph(f"{kind} ", "Caption")
        field = _element("fldSimple", instr=f"SEQ {kind} \\* ARABIC")
        run, number = _element("r"), _element("t")
        number.text = str(self.counts[kind])
        run.append(number)
        field.append(run)
        paragraph._p.append(field)
        paragraph.add_run(f": {clean(text.joined(content))}")
        return paragraph

    def _image(self, block: Figure | Picture) -> None:
        image = self.images.get(block.name)
        if image is None:
            self._paragraph(f"Cannot be shown: {block.caption}", "Warning")
            return
        width, height = image.width * PIXEL, image.height * PIXEL
        scale = min(1.0, WIDTH / width, HEIGHT / height)
        paragraph = self.document.add_paragraph()
        paragraph.paragraph_format.keep_with_next = True
        shape = paragraph.add_run().add_picture(
            str(self.folder / image.path), int(width * scale), int(height * scale)
        )
        shape._inline.docPr.set("descr", clean(block.caption))
        self._caption("Figure", block.caption)

    def _finding(self, block: FindingBlock, level: int) -> None:
        title = text.joined(f"{block.title} ({block.severity})")
        self.document.add_heading(clean(title), min(level + 1, DEEPEST))
        if block.rows:
            self._grid([Column(title) for title in ("phase", "what", "evidence")], block.rows)
        for line in block.evidence:
            self._paragraph(breakable(line), "List Bullet").paragraph_format.keep_with_next = True
        self._paragraph(f"To do: {block.advice}")

    def _table(self, table: Table) -> None:
        cells = cells_of(table)
        self._grid(table.columns, cells[:MOST_ROWS], table.marks[:MOST_ROWS])
        if len(cells) > MOST_ROWS:
            what = (
                f"The first {MOST_ROWS} of {len(cells)} rows; all are in tables/{table.name}.csv."
            )
            self._paragraph(what, "Note")

    def _grid(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], marks: Sequence[str] = ()
    ) -> None:
        """In parts, as in LaTeX, where its type would be too small for a page."""
        for part in parts_on_paper(columns, rows, ROOM):
            shown = [columns[i] for i in part.columns]
            self._part(shown, [[row[i] for i in part.columns] for row in rows], marks, part)

    def _part(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        marks: Sequence[str],
        part: Part,
    ) -> None:
        """Columns that are as wide as their cells, and never wider than the page."""
        titles = [column.title for column in columns]
        widths = points_of(part, [titles, *rows], ROOM)
        grid = self.document.add_table(0, len(columns), "Table Grid")
        grid.autofit = False
        _narrow_margins(grid)
        for column, width in zip(grid.columns, widths, strict=True):
            column.width = int(width * POINT)
        fill = _Filler(columns, widths, part.size)
        head = fill(grid.add_row(), titles, HEAD, bold=True)
        head.append(_element("tblHeader"))  # again on each page
        for row, mark in zip(rows, marks or [""] * len(rows), strict=True):
            fill(grid.add_row(), row, MARKED.get(mark))
        if len(rows) <= SHORT:  # on one page
            for cell in (cell for row in grid.rows[:-1] for cell in row.cells):
                cell.paragraphs[0].paragraph_format.keep_with_next = True
        self.document.add_paragraph().paragraph_format.space_after = 4 * POINT


class _Filler:
    """Writes the cells of a table's rows."""

    def __init__(self, columns: Sequence[Column], widths: Sequence[float], size: float) -> None:
        self.styles = ["Number" if column.is_numeric else "Cell" for column in columns]
        self.widths = [int(width * POINT) for width in widths]
        self.size = int(size * POINT)

    def __call__(
        self, row: Any, cells: Sequence[str], colour: str | None, *, bold: bool = False
    ) -> Any:
        """Write one row; its properties."""
        for cell, content, style, width in zip(
            row.cells, cells, self.styles, self.widths, strict=True
        ):
            cell.width = width
            paragraph = cell.paragraphs[0]
            paragraph.style = style
            shown = breakable(text.joined(content), 0 if bold else LONG_WORD)
            run = paragraph.add_run(clean(shown))
            run.font.size = self.size
            mark = _element("rPr")  # of the paragraph's end, which makes the height of empty cells
            mark.append(_element("sz", val=str(round(self.size / POINT * 2))))
            paragraph._p.get_or_add_pPr().append(mark)
            run.bold = bold or None
            if colour is not None:
                shade = _element("shd", val="clear", color="auto", fill=colour)
                cell._tc.get_or_add_tcPr().append(shade)
        properties = row._tr.get_or_add_trPr()
        properties.append(_element("cantSplit"))
        return properties


def _element(tag: str, **attributes: str) -> Any:
    """A piece of the document that python-docx has no name for."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    made = OxmlElement(f"w:{tag}")
    for name, value in attributes.items():
        made.set(qn(f"w:{name}"), value)
    return made


def _narrow_margins(grid: Any) -> None:
    """Half of `PADDING` on each side of a cell."""
    margins = _element("tblCellMar")
    for side in ("left", "right"):  # in twentieths of a point
        margins.append(_element(side, w=str(round(PADDING / 2 * 20)), type="dxa"))
    grid._tbl.tblPr.append(margins)


def _prepare(document: Any) -> None:
    """A4, and the styles that Word's default template lacks."""
    from docx.enum.text import WD_ALIGN_PARAGRAPH

    page = document.sections[0]
    page.page_width, page.page_height = PAGE
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = MARGIN
    styles = document.styles
    styles["Normal"].font.name, styles["Normal"].font.size = "Arial", 10 * POINT
    _ink(styles["Caption"], "59636E")
    styles["Caption"].font.bold = False
    _ink(_added(styles, "Note"), "59636E")
    _ink(_added(styles, "Warning"), "7D4E00")
    code = _added(styles, "Code").font
    code.name, code.size = "Courier New", int(8.5 * POINT)
    for name in ("Cell", "Number"):
        cell = _added(styles, name).paragraph_format
        cell.space_before = cell.space_after = POINT
        cell.line_spacing = 1.0
    cell.alignment = WD_ALIGN_PARAGRAPH.RIGHT


def _added(styles: Any, name: str) -> Any:
    from docx.enum.style import WD_STYLE_TYPE

    style = styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = styles["Normal"]
    return style


def _ink(style: Any, colour: str) -> None:
    from docx.shared import RGBColor

    style.font.size = 9 * POINT
    style.font.color.rgb = RGBColor.from_string(colour)


def breakable(content: str, long: int = LONG_WORD) -> str:
    """Text whose words of more than ``long`` characters may go on in another line where
    `layout.BREAK` says: Word breaks them anywhere else.

    >>> breakable("a model.activation", 0).split("\u200b"), breakable("a model.activation")
    (['a model.', 'activation'], 'a model.activation')
    """
    return " ".join(
        ZERO_WIDTH_SPACE.join(part for part in BREAK.split(word) if part)
        if len(word) > long
        else word
        for word in content.split(" ")
    )


def clean(content: str) -> str:
    """Without characters that no XML file can hold."""
    return _ILLEGAL.sub("\ufffd", str(content))
