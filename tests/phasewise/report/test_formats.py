"""DOCX files are read by python-docx, PDF files by poppler, where they are installed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import typing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from phasewise.errors import UserError
from phasewise.report import formats, page, text
from phasewise.report.content import (
    Block,
    Column,
    Command,
    Figure,
    FindingBlock,
    Report,
    Section,
    Table,
    Text,
)
from phasewise.report.document import ZERO_WIDTH_SPACE
from phasewise.report.formats import BROWSERS, check_formats
from phasewise.report.report import publish
from tests import forks
from tests.conftest import ROOT
from tests.forks import Done
from tests.phasewise.report.test_page import NASTY, drawing, report, table

__all__ = ["report"]  # the fixture

has_docx = pytest.mark.skipif(find_spec("docx") is None, reason="the extra docx is not installed")


SMALL = Report("t", [], [Section("one", [Text("words")])])


def call(*words: str | Path) -> Done:
    return forks.engine().run(["report.py", *map(str, words)], ROOT)


def rows_of(grid: typing.Any) -> list[list[str]]:
    plain = {ord(ZERO_WIDTH_SPACE): "", ord("\N{NO-BREAK SPACE}"): " "}
    return [[cell.text.translate(plain) for cell in row.cells] for row in grid.rows]


@has_docx
def test_a_document_has_headings_tables_captions_and_images(report: Report, tmp_path: Path) -> None:
    from docx import Document

    publish(report, tmp_path / "out", formats=["docx"])
    document = Document(str(tmp_path / "out" / "report.docx"))
    styles = [(it.style.name, it.text) for it in document.paragraphs if it.text]
    assert styles[0] == ("Title", NASTY)
    headings = [(style, it) for style, it in styles if style.startswith("Heading")]
    assert headings == [
        ("Heading 1", NASTY),
        ("Heading 2", "part"),
        ("Heading 3", f"{text.joined(NASTY)} (warning)"),
    ]
    captions = [it for it in document.paragraphs if it.style.name == "Caption"]
    kinds = ("Table", "Figure", "Figure")
    # the number is a field, which python-docx leaves out of the text
    assert [it.text for it in captions] == [f"{kind} : {text.joined(NASTY)}" for kind in kinds]
    fields = [field.get(field.keys()[0]) for it in captions for field in it._p.iter("{*}fldSimple")]
    assert fields == [f"SEQ {kind} \\* ARABIC" for kind in kinds]
    (grid,) = document.tables
    expected = table()
    cells = [
        [text.cell(value, column.kind) for value, column in zip(row, expected.columns, strict=True)]
        for row in expected.rows
    ]
    assert rows_of(grid) == [[column.title for column in expected.columns], *cells]
    assert len(list(grid._tbl.iter("{*}tblHeader"))) == 1
    fills = [it.get(it.keys()[-1]) for it in grid.rows[1]._tr.iter("{*}shd")]
    assert fills == ["DAFBE1"] * len(expected.columns), "the best row is marked"
    assert len(document.inline_shapes) == 2
    for shape in document.inline_shapes:
        assert shape._inline.docPr.get("descr") == NASTY
        assert shape.width.mm <= 170
    assert ("Warning", "Cannot be shown: cannot be seen") in styles
    assert ("Code", "python train.py 'a b'") in styles


@has_docx
def test_a_wide_table_is_split_and_every_part_names_its_rows(tmp_path: Path) -> None:
    from docx import Document

    columns = [Column("key"), *(Column(f"a long title {n}", "number") for n in range(30))]
    wide = Table("wide", "wide", columns)
    for row in range(3):
        wide.add(f"row{row}", *(row + n / 7 for n in range(30)))
    page = Report("t\x00\x1b[31m", [], [Section("one", [wide])])
    publish(page, tmp_path, formats=["docx"])
    document = Document(str(tmp_path / "report.docx"))
    assert document.paragraphs[0].text == "t\ufffd\ufffd[31m"
    assert len(document.tables) > 1
    titles: list[str] = []
    for grid in document.tables:
        found = rows_of(grid)
        assert [row[0] for row in found] == ["key", "row0", "row1", "row2"]
        assert sum(column.width.mm for column in grid.columns) <= 170.1
        sizes = {it.runs[0].font.size.pt for row in grid.rows for it in row.cells[0].paragraphs}
        assert min(sizes) >= 7
        titles += found[0][1:]
    assert titles == [column.title for column in columns[1:]]


@has_docx
def test_a_short_table_stays_on_one_page(tmp_path: Path) -> None:
    from docx import Document

    tables = [Table(f"of_{count}", "rows", [Column("a"), Column("b")]) for count in (3, 30)]
    for one, count in zip(tables, (3, 30), strict=True):
        for row in range(count):
            one.add(f"row {row}", "")
    publish(Report("t", [], [Section("one", [*tables])]), tmp_path, formats=["docx"])
    short, long = Document(str(tmp_path / "report.docx")).tables
    kept = [
        [row.cells[0].paragraphs[0].paragraph_format.keep_with_next for row in grid.rows]
        for grid in (short, long)
    ]
    assert kept == [[True, True, True, None], [None] * 31]


@has_docx
def test_keys_above_columns_break_behind_their_dots_only(tmp_path: Path) -> None:
    from docx import Document

    table = Table("one", "one", [Column("model.activation"), Column("val/mIoU", "number")])
    table.add("gelu", 0.5)
    table.add("", 0.4)
    publish(Report("t", [], [Section("one", [table])]), tmp_path, formats=["docx"])
    (grid,) = Document(str(tmp_path / "report.docx")).tables
    heads = [cell.text.split("\u200b") for cell in grid.rows[0].cells]
    assert heads == [["model.", "activation"], ["val/", "mIoU"]]
    ends = {size.get(size.keys()[0]) for size in grid._tbl.iterfind(".//{*}pPr/{*}rPr/{*}sz")}
    sizes = {run.get(run.keys()[0]) for run in grid._tbl.iterfind(".//{*}r/{*}rPr/{*}sz")}
    assert ends == sizes != set(), "an empty cell is as high as the others"


@has_docx
def test_what_a_sentence_announces_is_on_its_page(tmp_path: Path) -> None:
    from docx import Document

    blocks = [Text("First."), Text("This trains it:", "note"), Command("train"), Text("An end.")]
    publish(Report("t", [], [Section("one", blocks)]), tmp_path, formats=["docx"])
    found = {
        it.text: it.paragraph_format for it in Document(str(tmp_path / "report.docx")).paragraphs
    }
    assert [found[it].keep_with_next for it in ("First.", "This trains it:", "An end.")] == [
        True,
        True,
        None,
    ]


def test_a_very_long_table_says_where_the_rest_is(tmp_path: Path) -> None:
    from docx import Document

    long = Table("runs", "all runs", [Column("run")])
    for row in range(230):
        long.add(f"run {row}")
    publish(Report("t", [], [Section("one", [long])]), tmp_path, formats=["docx"])
    document = Document(str(tmp_path / "report.docx"))
    (grid,) = document.tables
    assert len(grid.rows) == 201
    last = document.paragraphs[-1]
    assert last.text == "The first 200 of 230 rows; all are in tables/runs.csv."
    assert len((tmp_path / "tables" / "runs.csv").read_text().splitlines()) == 231


@has_docx
def test_every_kind_of_block_can_be_written(report: Report) -> None:
    (part,) = report.sections[0].parts
    assert {type(block) for block in part.blocks} == set(typing.get_args(Block))


@has_docx
def test_a_document_that_the_next_report_does_not_write_is_gone(tmp_path: Path) -> None:
    publish(SMALL, tmp_path, formats=["docx"])
    assert "[report.docx](report.docx)" in (tmp_path / "report.md").read_text()
    publish(SMALL, tmp_path, formats=["docx"])
    assert (tmp_path / "report.docx").is_file()
    publish(SMALL, tmp_path)
    assert not (tmp_path / "report.docx").exists()
    (tmp_path / "report.docx").write_text("somebody's own")
    publish(SMALL, tmp_path)
    assert (tmp_path / "report.docx").read_text() == "somebody's own"


@has_docx
def test_a_document_that_was_edited_stays(tmp_path: Path) -> None:
    publish(SMALL, tmp_path, formats=["docx"])
    path = tmp_path / "report.docx"
    later = path.stat().st_mtime + 60
    os.utime(path, (later, later))
    with pytest.raises(UserError) as caught:
        publish(SMALL, tmp_path, formats=["docx"])
    assert str(caught.value) == (
        f"{path} was edited: move it elsewhere, or --output DIR chooses another place for the "
        "report"
    )
    publish(SMALL, tmp_path)
    assert path.stat().st_mtime == later


@has_docx
def test_a_report_that_ended_half_way_does_not_count_as_edited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(SMALL, tmp_path, formats=["docx"])
    path, earlier = tmp_path / "report.docx", (tmp_path / "report.md").stat().st_mtime - 60
    for name in ("report.docx", "report.md"):
        os.utime(tmp_path / name, (earlier, earlier))
    path.write_bytes(b"the one before")
    os.utime(path, (earlier, earlier))
    with monkeypatch.context() as patched:
        patched.setattr(page, "markdown", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(SMALL, tmp_path, formats=["docx"])
    assert path.read_bytes() != b"the one before"
    publish(SMALL, tmp_path, formats=["docx"])
    assert path.stat().st_mtime > earlier + 30  # its time is that of writing again


def test_a_missing_program_is_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, study: Path, tmp_path: Path
) -> None:
    programs = {"soffice": "/usr/bin/soffice"}
    monkeypatch.setattr(formats, "shutil", SimpleNamespace(which=programs.get))
    monkeypatch.setattr(formats, "_has_docx", lambda: False)
    with pytest.raises(UserError, match=r"python-docx is not installed; pip install .*docx"):
        check_formats(["docx"])
    with pytest.raises(UserError, match=r"Chromium, Chrome or Edge.*LibreOffice alone needs"):
        check_formats(["pdf"])
    programs.clear()
    with pytest.raises(UserError, match=r"install Chromium, Chrome or Edge.*or LibreOffice"):
        check_formats(["pdf"])
    programs["msedge"] = "edge"
    check_formats(["pdf"])
    check_formats([])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dcox", "--format: dcox is not one of docx, pdf; did you mean docx?"),
        ("html", "--format: report.html is always written; beside it docx and pdf"),
        ("", "--format: a name is not one of docx, pdf"),
    ],
)
def test_an_unknown_format_is_one_line(
    study: Path, tmp_path: Path, word: str, message: str
) -> None:
    done = call(study, "--output", tmp_path / "out", "--format", word)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"report.py: {message}\n")
    assert not (tmp_path / "out").exists()


def test_a_browser_that_fails_costs_the_pdf_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "bin" / BROWSERS[0]
    browser.parent.mkdir()
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{browser.parent}:{os.environ['PATH']}")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"wrote none \(exit code 3: no display\)"):
        publish(SMALL, out, formats=["pdf"])
    assert sorted(path.name for path in out.iterdir()) == [
        *("figures", "report.html", "report.md", "tables")
    ]
    assert "report.pdf" not in (out / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("programs", [BROWSERS, formats.OFFICES])
def test_a_pdf_holds_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: tuple[str, ...]
) -> None:
    if not any(map(shutil.which, programs)):
        pytest.skip(f"none of {', '.join(programs)} is installed")
    if shutil.which("pdftotext") is None:
        pytest.skip("poppler is not installed")
    if programs is formats.OFFICES:
        pytest.importorskip("docx", reason="the extra docx is not installed")
        monkeypatch.setattr(formats, "BROWSERS", ())
    long = Table("long", "long", [Column("name"), *(Column(f"c{n}", "number") for n in range(12))])
    for row in range(80):
        long.add(f"row{row}", *(row + n / 7 for n in range(12)))
    folded = FindingBlock("a note", "note", ["its evidence"], "the advice")
    page = Report("a title", [], [Section("A section", [long, folded, Figure("f", "f", drawing)])])
    publish(page, tmp_path, formats=["pdf"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("figures", "report.html", "report.md", "report.pdf", "tables")
    ]
    content = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    # what is folded up on the screen is not on paper, and nothing is cut off
    numbers = {text.number(row + n / 7) for row in range(80) for n in range(12)}
    words = {"title", "section", "evidence", "advice", *(f"row{row}" for row in range(80))}
    assert numbers | words <= {word.strip("-") for word in content}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_only_the_sections_that_are_asked_for(study: Path, tmp_path: Path) -> None:
    done = call(study, "--output", tmp_path, "--sections", "summary, phase 1,APPENDIX")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        *("Summary", "Phase 1: lr", "Appendix")
    ]
    assert (tmp_path / "tables" / "phase_1_lr.csv").is_file()
    assert not (tmp_path / "tables" / "phase_2_activation.csv").exists()
    done = call(study, "--output", tmp_path, "--sections", "activation")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "tables" / "phase_1_lr.csv").exists()
    assert (tmp_path / "tables" / "phase_2_activation.csv").is_file()


def test_an_unknown_section_is_one_line(study: Path, tmp_path: Path) -> None:
    done = call(study, "--output", tmp_path / "out", "--sections", "Summary,apendix")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("report.py: --sections: no section 'apendix'; there are Summary,")
    assert done.stderr.endswith("; did you mean Appendix?\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
