from __future__ import annotations

import csv
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image as Pillow

from phasewise.errors import UserError
from phasewise.report import page
from phasewise.report.content import (
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
from phasewise.report.files import Folder
from phasewise.report.report import publish
from phasewise.report.tables import to_csv, to_latex

NASTY = '<script>alert("x")</script> | a_b & 50 % # $x$ `y` {z} ~ ^ \\'


def table() -> Table:
    columns = [
        Column(NASTY),
        Column("score", "spread"),
        Column("gain", "signed"),
        Column("in %", "percent"),
        Column("time", "duration"),
        Column("ci", "interval"),
    ]
    made = Table("scores", NASTY, columns)
    made.add(NASTY, (2 / 3, 0.1), 1 / 3, 100 / 3, 642, (0.1, 0.2), mark="best")
    made.add(None, (math.nan, math.nan), math.nan, math.nan, None, None)
    return made


def drawing() -> Drawing:
    figure = Drawing(figsize=(3, 2))
    figure.subplots().plot([1, 2], [3, 4])
    return figure


@pytest.fixture
def report(tmp_path: Path) -> Report:
    Pillow.new("RGBA", (1500, 30), "red").save(tmp_path / "run.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "run.png").read_bytes()[:60])
    blocks = [
        Text(NASTY, "warning"),
        Bullets([NASTY]),
        Command("python train.py 'a b'"),
        Source("preset/x.yaml", NASTY, f"a: 1\nb: {NASTY}\n"),
        table(),
        Figure("plot", NASTY, drawing),
        Picture("shown", NASTY, tmp_path / "run.png"),
        Picture("broken", "cannot be seen", tmp_path / "cut.png"),
        FindingBlock(NASTY, "warning", [NASTY], NASTY),
    ]
    return Report(NASTY, [(NASTY, NASTY)], [Section(NASTY, [], [Section("part", blocks)])], True)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_needs_nothing_else_and_runs_nothing(report: Report, tmp_path: Path) -> None:
    path = publish(report, tmp_path / "out", refresh=7)
    text = path.read_text()
    tags = Tags()
    tags.feed(text)
    names = [name for name, _ in tags.found]
    assert "script" not in names
    assert NASTY in tags.text
    sources = [a.get("src") or a.get("srcset") for n, a in tags.found if n in ("img", "source")]
    assert len(sources) == 3  # the plot for light and for dark pages, the picture
    assert all(source and source.startswith("data:image/") for source in sources)
    links = [a["href"] for n, a in tags.found if n in ("a", "link")]
    assert all(link and link.startswith(("#", "data:")) for link in links)
    anchors = {a.get("id") for _, a in tags.found}
    assert {link[1:] for link in links if link and link[0] == "#"} <= anchors
    assert {"http-equiv": "refresh", "content": "7"} in [a for _, a in tags.found]
    assert not re.search(r"url\(|@import|https?://", text.partition("<main>")[0])


def test_notes_of_the_audit_are_folded_and_tables_stand_inside(tmp_path: Path) -> None:
    rows = [("lr", "two of them", "a|b"), ("", "", NASTY)]
    blocks = [FindingBlock(name, name, ["line"], "do", rows) for name in ("error", "note")]
    report = Report("title", [], [Section("Audit", [*blocks])])
    page = publish(report, tmp_path).read_text()
    before, _, folded = page.partition("<main>")[2].partition("<details")
    assert '<div class="finding is-error">' in before and "is-note" not in before
    assert folded.lstrip().startswith('class="finding is-note"')
    for part in (before, folded):
        assert part.count("<tr>") == 3 and "<script>" not in part
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines.count("  | lr | two of them | a\\|b |") == 2
    start = lines.index("  | phase | what | evidence |")
    assert lines[start - 1] == "" and lines[start - 2] == "- **error** (error)"


def test_pages_that_are_complete_do_not_refresh(report: Report, tmp_path: Path) -> None:
    report.is_running = False
    assert 'http-equiv="refresh"' not in publish(report, tmp_path / "out", refresh=7).read_text()


def test_markdown_links_files_that_exist(report: Report, tmp_path: Path) -> None:
    publish(report, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    links = re.findall(r"\]\(((?:figures|tables|preset)/[^)]+)\)", text)
    assert len(links) == 5
    assert all((tmp_path / "out" / link).is_file() for link in links)
    code = [line for line in text.splitlines() if line.startswith("    ")]  # shown as it is
    assert code == ["    python train.py 'a b'", "    a: 1", f"    b: {NASTY}"]
    assert "<script>" not in text.replace("\\<script\\>", "").replace(code[2], "")
    assert (tmp_path / "out" / "preset" / "x.yaml").read_text() == f"a: 1\nb: {NASTY}\n"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_figures_are_for_print_and_for_dark_pages(report: Report, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    image = folder.figure(Figure("plot", "", drawing))
    with Pillow.open(tmp_path / "out" / image.path) as saved:
        assert saved.size == (900, 600)
        assert saved.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert image.dark != image.light
    small = folder.picture(Picture("shown", "", tmp_path / "run.png"))
    assert small is not None
    assert (small.width, small.height) == (1000, 20)
    assert folder.picture(Picture("broken", "", tmp_path / "cut.png")) is None
    assert folder.picture(Picture("gone", "", tmp_path / "gone.png")) is None


def test_csv_is_unrounded() -> None:
    rows = [*csv.DictReader(to_csv(table()).splitlines())]
    assert float(rows[0]["score mean"]) == 2 / 3
    assert float(rows[0]["gain"]) == 1 / 3
    assert float(rows[0]["in %"]) == 100 / 3
    assert rows[0]["time [s]"] == "642"
    assert (rows[0]["ci low"], rows[0]["ci high"]) == ("0.1", "0.2")
    assert set(rows[1].values()) == {""}


def test_latex_has_booktabs_and_no_live_character() -> None:
    latex = to_latex(table())
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrrr}"):
        assert rule in latex
    body = latex.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    assert len(re.findall(r"(?<!\\)&", body)) == 2 * 5
    assert not re.search(r"(?<!\\)[%#_<>]|\^(?!\{)", body.replace("$<$", "").replace("$>$", ""))
    long = Table("long", "", [Column("key"), Column("value", "number")])
    for row in range(60):
        long.add("a", row)
    assert r"\begin{longtable}" in to_latex(long)


def test_latex_of_a_wide_table_is_split_and_each_part_names_its_rows() -> None:
    titles = [f"some metric {i}" for i in range(12)]
    wide = Table("wide", "", [Column("key"), *(Column(title, "number") for title in titles)])
    for row in range(50):
        wide.add(f"row {row}", *(i + row / 7 for i in range(12)))
    parts = to_latex(wide).split(r"\medskip")
    heads = [re.findall(r"^key & .*$", part, re.M)[0].rstrip("\\ ").split(" & ") for part in parts]
    assert [title for head in heads for title in head[1:]] == titles
    for part, head in zip(parts, heads, strict=True):
        assert 1 < len(head) < 9
        assert r"\begin{longtable}" in part and "\nrow 49 & " in part


def test_latex_that_cannot_be_split_shrinks() -> None:
    texts = Table("texts", "", [Column("file"), Column("reason")])
    for row in range(41):
        texts.add(f"run {row}", "long " * 30)
    latex = to_latex(texts)
    assert latex.count(r"\begin{adjustbox}{max width=\textwidth}") == 2
    assert latex.count(r"\end{adjustbox}") == latex.count(r"\toprule") == 2
    assert "longtable" not in latex and latex.count("run ") == 41


def test_a_row_has_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="1 cells for 6 columns"):
        table().add(1)


def test_files_are_replaced_and_no_draft_stays(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("report.md", "old")
    folder.write("report.md", "new")
    assert (tmp_path / "report.md").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "report.md", "tables"]


def test_the_files_of_an_older_report_are_known(tmp_path: Path) -> None:
    old = "Figures are rounded to 4 significant digits, times to the second; counts are exact."
    Folder(tmp_path).write("report.md", f"{old}\n\n[it](tables/runs.csv)\n")
    assert Folder(tmp_path).linked("report.md") == {"tables/runs.csv"}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot be written.*\n--output"):
        Folder(tmp_path / "file")
    folder = Folder(tmp_path)
    (tmp_path / "report.md").mkdir()
    with pytest.raises(UserError, match=r"report\.md cannot be written"):
        folder.write("report.md", "x")
    assert not [*tmp_path.glob(".report*")]


def test_long_tables_are_folded_up(tmp_path: Path) -> None:
    made = Table("many", "rows", [Column("x", "number")])
    for number in range(page.LONG + 1):
        made.add(number)
    text = page.html(Report("t", [], [Section("s", [made])]), {})
    assert f"<summary>{page.LONG + 1} rows</summary>" in text


def test_sentences_get_room_and_lists_break_between_their_values(tmp_path: Path) -> None:
    columns = [Column("key"), Column("verdict"), Column("value", "number"), Column("state")]
    columns += [Column("directory"), Column("overrides")]
    table = Table("one", "", columns)
    words = "model.backbone=resnet18 model.segmentation_head=fcn"
    place = "search/data.batch_size=4,loss.name=dice,optimizer.lr=0.0001,seed=0"
    verdict = "one seed: it cannot be told"
    table.add("[translate,flip,color_jitter]", verdict, 1.0, "kept", place, words)
    publish(Report("title", [], [Section("One", [table])]), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "[translate,<wbr>flip,<wbr>color_jitter]" in page
    assert '<th class="t words" scope="col">verdict</th>' in page
    assert page.count('class="t words"') == 1
    assert '<th class="t paths" scope="col">directory</th>' in page
    assert '<th class="t paths" scope="col">overrides</th>' in page
    assert page.count('class="t paths"') == 2


def test_what_belongs_together_stays_in_a_line_and_names_break_behind_underscores() -> None:
    section = Section(
        "One", [Text("less than 2 % of it"), Bullets(["14 % worse", "2 seeds in 0.7 s."])]
    )
    section.blocks.append(Command("echo 5 %"))
    report = Report("x", [("seeds", "0 in each_at_its_best")], [section])
    text = page.html(report, {})
    assert "less than 2\N{NO-BREAK SPACE}% of it" in text
    assert "14\N{NO-BREAK SPACE}% worse" in text
    assert "2 seeds in 0.7\N{NO-BREAK SPACE}s." in text
    assert "echo 5 %" in text  # what is copied stays as it is
    assert "0 in each_<wbr>at_<wbr>its_<wbr>best" in text
