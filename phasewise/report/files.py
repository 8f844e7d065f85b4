"""The files of a report: tables as CSV and LaTeX, figures as PNG, each replaced in one step."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow

from phasewise.errors import UserError, unwritable
from phasewise.figures import to_png
from phasewise.report.content import Figure, Picture, Table
from phasewise.report.figures.style import DPI, data_uri, styled, to_svg
from phasewise.report.tables import to_csv, to_latex
from phasewise.report.text import RECOGNISED
from phasewise.storage import write_whole

TEXT = "report.md"
"""The page as Markdown, which names all other files of a report."""

ADVICE = "--output DIR chooses another place for the report"

PICTURE_WIDTH = 1000
"""Of a run's pictures in the report, in pixels; the run keeps the original."""

LARGEST_PICTURE = 50_000_000
"""Pixels beyond which an image is not decoded."""

_LINK = re.compile(
    r"(?<!\\)\]\(((?:tables|figures|preset)/[^()\s/]+|final\.yaml|report\.(?:docx|pdf))\)"
)
"""To a file of the report in its Markdown; what users named is escaped there."""

_AS_IT_IS = re.compile(r"^ {4}.*$", re.M)
"""What is not escaped: lines to paste, which hold no links."""

MOMENT = 5.0
"""Seconds that a copy of a folder, or writing one, may put between the times of its files."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Image:
    """What a page shows: data URIs for light and dark pages, the file below the report's folder."""

    light: str
    dark: str
    path: str
    width: int
    height: int


class Folder:
    """Where a report is written."""

    def __init__(self, path: Path) -> None:
        """Makes it.

        Raises:
            UserError: if it cannot be made.
        """
        self.path = path
        try:
            for part in ("tables", "figures"):
                (path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error, ADVICE) from error

    def write(self, name: str, content: str | bytes) -> Path:
        """Replace a file in one step.

        Raises:
            UserError: if it cannot be written.
        """
        target = self.path / name
        write_whole(target, content, ADVICE)
        return target

    def draft(self, name: str, content: bytes) -> None:
        """Replace a document before the Markdown file that will name it.

        Until that is written, the document is as old as the one before: should this report end
        here, the next one must not take it for `edited`.

        Raises:
            UserError: if it cannot be written.
        """
        self.write(name, content)
        before = self.path / TEXT
        if before.exists():
            self.date(name, before.stat().st_mtime)

    def date(self, name: str, time: float | None = None) -> None:
        """Set when a file was changed, now if ``None``; where that is refused, it stays."""
        with suppress(OSError):
            os.utime(self.path / name, None if time is None else (time, time))

    def linked(self, name: str) -> set[str]:
        """The tables, figures and presets that a Markdown file of the folder names, if any.

        Of a report this is all that it wrote, so that the next one knows what is out of date, and
        what in the folder belongs to somebody else.
        """
        try:
            content = (self.path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return set()
        return set(_LINK.findall(_AS_IT_IS.sub("", content))) if RECOGNISED in content else set()

    def edited(self, name: str, formats: Iterable[str]) -> set[str]:
        """The documents beside a Markdown file of the folder that somebody has worked on since.

        Raises:
            UserError: one is of ``formats``, and would be written over.
        """
        found = {one for one in self.linked(name) if one.startswith("report.")}
        since = [path for one in found if _is_newer(path := self.path / one, self.path / name)]
        for path in since:
            if path.suffix[1:] in formats:
                raise UserError(f"{path} was edited: move it elsewhere, or {ADVICE}")
        return {path.name for path in since}

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; one that is gone already is no fault.

        Raises:
            UserError: if one cannot be deleted.
        """
        for name in names:
            path = self.path / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(path, error, ADVICE) from error

    def table(self, table: Table) -> None:
        """As CSV, unrounded, and as LaTeX with booktabs' rules."""
        self.write(f"tables/{table.name}.csv", to_csv(table))
        self.write(f"tables/{table.name}.tex", to_latex(table))

    def figure(self, figure: Figure) -> Image:
        """As PNG for print; the page gets vectors."""
        with styled():
            drawing = figure.draw()
            path = f"figures/{figure.name}.png"
            self.write(path, to_png(drawing, DPI))
            light, dark = to_svg(drawing)
        width, height = drawing.get_size_inches() * 96
        return Image(light, dark, path, round(width), round(height))

    def picture(self, picture: Picture) -> Image | None:
        """A smaller copy; ``None`` if the file is no image that can be shown."""
        try:
            with Pillow.open(picture.source) as image:
                if image.width * image.height > LARGEST_PICTURE:
                    raise ValueError("too large")
                image.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH * 4))
                small = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's, of a broken PNG
            log.warning("%s cannot be shown (%s)", picture.source, error)
            return None
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85)
        path = f"figures/{picture.name}.jpg"
        self.write(path, file.getvalue())
        uri = data_uri(file.getvalue(), "image/jpeg")
        return Image(uri, uri, path, *small.size)


def _is_newer(path: Path, other: Path) -> bool:
    """Whether a file was written later; not if one of them is not there."""
    try:
        return path.stat().st_mtime > other.stat().st_mtime + MOMENT
    except OSError:
        return False
