"""The formats that a report can have beside its two pages, and what they need.

A DOCX file is written by python-docx. A PDF is the HTML page as a browser prints it; where there is
no browser, LibreOffice makes one of the DOCX file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from phasewise.errors import UserError
from phasewise.project import install_command

if TYPE_CHECKING:
    from phasewise.report.content import Report
    from phasewise.report.files import Folder, Image

FORMATS = ("docx", "pdf")

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)

OFFICES = ("soffice", "libreoffice", "/Applications/LibreOffice.app/Contents/MacOS/soffice")

LONGEST = 300
"""Seconds that another program may take for a PDF."""


def check_formats(names: Sequence[str]) -> None:
    """See that there is what they need, before anything is written.

    Raises:
        UserError: a name that is none of `FORMATS`, or a program or package that is missing.
    """
    from phasewise.config.help import not_one_of

    for name in names:
        if name in ("html", "md"):
            raise UserError(f"--format: report.{name} is always written; beside it docx and pdf")
        if name not in FORMATS:
            raise UserError(f"--format: {name or 'a name'} is {not_one_of(name, FORMATS)}")
    if "docx" in names and not _has_docx():
        raise UserError(f"--format=docx: python-docx is not installed; {install_command('docx')}")
    if "pdf" in names and _found(BROWSERS) is None:
        if _found(OFFICES) is None:
            raise UserError(
                "--format=pdf: install Chromium, Chrome or Edge, which print the page (none of "
                "them is on the PATH), or LibreOffice"
            )
        if not _has_docx():
            raise UserError(
                "--format=pdf: install Chromium, Chrome or Edge, which print the page; LibreOffice "
                f"alone needs python-docx beside it: {install_command('docx')}"
            )


def write_formats(
    names: Sequence[str], folder: Folder, report: Report, images: Mapping[str, Image]
) -> tuple[list[str], UserError | None]:
    """Write ``report.docx`` and ``report.pdf``, whichever are wanted.

    Args:
        names: of `FORMATS`, checked.
        folder: of the report, with its figures.
        report: what it consists of.
        images: its figures, see `phasewise.report.render.render`.

    Returns:
        Which were written, and why the next one was not: the pages are worth writing all the same.
    """
    written: list[str] = []
    try:
        for name in names:
            content = _document if name == "docx" else _portable
            folder.draft(f"report.{name}", content(folder, report, images))
            written.append(name)
    except UserError as error:
        return written, error
    return written, None


def _document(folder: Folder, report: Report, images: Mapping[str, Image]) -> bytes:
    from phasewise.report.document import to_docx

    return to_docx(report, images, folder.path)


def _portable(folder: Folder, report: Report, images: Mapping[str, Image]) -> bytes:
    from phasewise.report import page

    browser = _found(BROWSERS)
    if browser is not None:
        return _printed(browser, page.html(report, images), folder)
    return _converted(_document(folder, report, images), folder)


def _printed(browser: str, html: str, folder: Folder) -> bytes:
    """The page as a browser prints it."""
    # in the report's folder: a browser from a sandboxed package may see no other one
    with TemporaryDirectory(dir=folder.path, prefix="printing") as name:
        place = Path(name).resolve()
        (place / "page.html").write_text(html, encoding="utf-8")
        root = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        words = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--no-first-run", *root]
        words += [f"--user-data-dir={place / 'profile'}", f"--print-to-pdf={place / 'page.pdf'}"]
        return _made([browser, *words, (place / "page.html").as_uri()], place / "page.pdf")


def _converted(document: bytes, folder: Folder) -> bytes:
    """A DOCX file as LibreOffice prints it."""
    office = _found(OFFICES)
    assert office is not None
    with TemporaryDirectory(dir=folder.path, prefix="printing") as name:
        place = Path(name).resolve()
        (place / "page.docx").write_bytes(document)
        words = [f"-env:UserInstallation={(place / 'profile').as_uri()}", "--headless"]
        words += ["--convert-to", "pdf", "--outdir", str(place), str(place / "page.docx")]
        return _made([office, *words], place / "page.pdf")


def _made(command: Sequence[str], path: Path) -> bytes:
    """What a program has written.

    Raises:
        UserError: it did not.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LONGEST, check=False
        )
        return path.read_bytes()
    except subprocess.TimeoutExpired:
        reason = f"took more than {LONGEST} s"
    except FileNotFoundError:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = f"wrote none (exit code {done.returncode}{': ' + lines[-1] if lines else ''})"
    raise UserError(f"report.pdf: {command[0]} {reason}; the rest of the report is without it")


def _found(names: Sequence[str]) -> str | None:
    """The first program that there is."""
    return next((path for name in names if (path := shutil.which(name))), None)


def _has_docx() -> bool:
    return find_spec("docx") is not None
