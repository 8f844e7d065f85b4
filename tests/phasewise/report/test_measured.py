"""What a task measured on the final configuration stands in the report, and nothing where it did
not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from phasewise.records.history import Row
from phasewise.records.notes import Diagram, Notes, Shares
from phasewise.records.record import RunRecord
from phasewise.report.content import Figure, Picture, Table
from phasewise.report.report import write_report
from phasewise.report.sections.final import final_pictures
from phasewise.report.sections.measured import final_record, measured_blocks
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import Settings, Synthetic


def measured(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """Another share for each run, and three references."""
    part = record.best["val/mIoU"] / 2
    bars = {"all": {"in": part, "out": 1 - part}, "half": {"in": 0.5, "out": 0.5}}
    curves = {"x": [0.0, 1.0], "y": [1.0, 2.0]}
    names = "abc"
    record.notes = Notes(
        references=tuple(Diagram("read_by", name, "Read by.", curves) for name in names),
        shares=(Shares("parts", "share of all", "Parts.", bars),),
    )


def view(directory: Path, study: Synthetic) -> StudyView:
    study.write(directory)
    return StudyView(read_study(directory))


def test_shares_of_the_best_run_of_the_final_configuration(tmp_path: Path) -> None:
    study = view(tmp_path, Synthetic(edit=measured, test=True))
    figure, table, references = measured_blocks(study)
    assert isinstance(figure, Figure) and isinstance(table, Table)
    assert isinstance(references, Figure) and references.name == "read_by"
    record = final_record(study)
    assert record is not None
    assert record.objective["value"] == max(
        trial.value for _, _, trial in study.trials() if trial.value
    )
    part = record.objective["value"] / 2
    (ax,) = figure.draw().axes
    ends = [(bar.get_x(), bar.get_width(), bar.get_y()) for bar in ax.patches]
    widths = [pytest.approx((x, w)) for x, w in ((0, part), (part, 1 - part), (0, 0.5), (0.5, 0.5))]
    assert [(x, w) for x, w, _ in ends] == widths
    assert ax.texts[0].get_text() == f"{100 * part:.1f} %"
    assert table.rows == [("all", part, 1 - part), ("half", 0.5, 0.5)]
    assert len(references.draw().axes[0].lines) == 3


def test_it_is_in_the_report_and_its_files(tmp_path: Path) -> None:
    Synthetic(edit=measured).write(tmp_path)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## Behaviour" in text and "Final configuration. Parts." in text
    with (tmp_path / "tables" / "parts.csv").open() as file:
        (first, _) = csv.DictReader(file)
    assert float(first["in"]) + float(first["out"]) == pytest.approx(1)
    assert (tmp_path / "figures" / "parts.png").is_file()
    assert (tmp_path / "figures" / "read_by.png").is_file()


def test_runs_that_measured_nothing_show_nothing(tmp_path: Path) -> None:
    assert measured_blocks(view(tmp_path / "a", Synthetic())) == []
    failed = Synthetic(score=lambda settings, seed: "failed", seeds=[0])
    assert measured_blocks(view(tmp_path / "b", failed)) == []


def pictured(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    folder = record.directory / "figures"
    folder.mkdir(parents=True)
    for name in ("best", "worst", "curves", "histogram", "by_size"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")


def test_without_test_data_the_pictures_are_of_validation_data(tmp_path: Path) -> None:
    section = final_pictures(view(tmp_path, Synthetic(edit=pictured)))
    assert section is not None
    shown = [one for one in section.blocks if isinstance(one, Picture)]
    assert [one.name for one in shown] == ["final_by_size", "final_histogram"]
    assert shown[0].caption == "Final configuration: by size, validation data."
