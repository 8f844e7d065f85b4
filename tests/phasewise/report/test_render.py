from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing

from phasewise.errors import UserError
from phasewise.report import render as module
from phasewise.report.content import Column, Figure, Picture, Section, Table
from phasewise.report.files import Folder
from phasewise.report.render import processes, render
from phasewise.report.report import build_report
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import Synthetic


def plain() -> Drawing:
    figure = Drawing(figsize=(1, 1))
    figure.subplots()
    return figure


def broken() -> Drawing:
    raise RuntimeError("cannot")


def killed() -> Drawing:
    if threading.current_thread() is threading.main_thread() and os.getpid() != PARENT:
        os._exit(9)
    return plain()


PARENT = os.getpid()


def figures(count: int) -> list[Figure | Picture]:
    return [Figure(f"figure_{number}", "", plain) for number in range(count)]


@pytest.fixture(params=[1, 2])
def two(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "processes", lambda: request.param)
    return request.param


def test_every_figure_is_there_once(two: int, tmp_path: Path) -> None:
    blocks = figures(9)
    found = render(Folder(tmp_path), blocks)
    assert sorted(found) == sorted(block.name for block in blocks)
    assert len({image.path for image in found.values()}) == 9
    assert all((tmp_path / image.path).is_file() for image in found.values())


def test_one_that_cannot_be_drawn_costs_only_itself(
    two: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = [*figures(8), Figure("bad", "", broken)]
    assert sorted(render(Folder(tmp_path), blocks)) == [f"figure_{i}" for i in range(8)]


def test_the_share_of_a_helper_that_is_killed_is_drawn_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "processes", lambda: 2)
    blocks = [*figures(7), Figure("killed", "", killed)]  # the last one is the helper's
    assert len(render(Folder(tmp_path), blocks)) == 8


def test_a_folder_that_cannot_be_written_is_told(two: int, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(8):
        (tmp_path / "figures" / f"figure_{number}.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        render(folder, figures(8))


def test_beside_other_threads_nothing_is_forked() -> None:
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        assert processes() == 1
    finally:
        wait.set()
        thread.join()


def test_a_part_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Synthetic(phases={"lr": "optimizer.lr=1e-4,1e-3"}, seeds=[0]).write(tmp_path)

    def fail(*words: object) -> Section:
        table = Table("x", "", [Column("one")])
        table.add(1, 2)
        return Section("never", [table])

    monkeypatch.setattr("phasewise.report.sections.glance.glance_section", fail)
    report = build_report(StudyView(read_study(tmp_path)), tmp_path)
    titles = [section.title for section in report.sections]
    assert titles[:5] == ["Summary", "Audit", "What to ask next", "Data", "Configuration"]
    (text,) = report.sections[5].blocks
    assert "could not be made (ValueError: 2 cells for 1 columns of x)" in text.text
    assert titles[5:] == ["Phases at a glance", "Phase 1: lr", "What mattered", "Appendix"]
