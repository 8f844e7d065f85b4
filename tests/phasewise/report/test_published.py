"""Published values in a report; ranks and correlations against scipy on the same numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from phasewise.records.record import RunRecord
from phasewise.report.report import write_report
from tests.phasewise.study.synthetic import Row, Settings, Synthetic

pytestmark = pytest.mark.usefixtures("undrawn")

PUBLISHED = {
    "lr": {
        "optimizer.lr=1e-4": {"mIoU": 0.3, "mAP": 0.2},
        "optimizer.lr=1e-3": {"mIoU": 0.5},
        "optimizer.lr=1e-2": {"mIoU": 0.55},
        "optimizer.lr=1e-1": {"mIoU": 0.01},
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.best["val/mAP"] = 0.25
        record.cost["epochs"] = 1 if "model.activation" not in settings else 2
        record.data = {"counts": {"train": 8, "val": 4}, "name": "mine", "image_size": 64}

    journal = {"published": PUBLISHED, "published_conditions": "VOC, 21 h", "budget": "smoke"}
    Synthetic(edit=edit, journal=journal).write(tmp_path)
    write_report(tmp_path)
    return tmp_path


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    with (folder / "tables" / f"{name}.csv").open() as file:
        return [*csv.DictReader(file)]


def test_phase_tables_have_a_column_and_the_difference(folder: Path) -> None:
    rows = {float(row["optimizer.lr"]): row for row in table(folder, "phase_1_lr")}
    for rate, theirs in {1e-4: 0.3, 1e-3: 0.5, 1e-2: 0.55}.items():
        row = rows[rate]
        assert float(row["published mIoU"]) == theirs
        ours = float(row["val/mIoU mean"])
        assert float(row["mIoU less published"]) == pytest.approx(ours - theirs)
    assert float(rows[1e-4]["mAP less published"]) == pytest.approx(0.05)
    assert rows[1e-3]["published mAP"] == rows[1e-3]["mAP less published"] == ""
    assert "published mIoU" not in table(folder, "phase_2_activation")[0]


def test_the_section_says_whether_the_same_is_best(folder: Path) -> None:
    found = {row["metric"]: row for row in table(folder, "published")}
    row = found["mIoU"]
    assert (row["best published"], row["best here"]) == ("lr=0.01", "lr=0.001")
    assert row["rank here of the best published"] == "2 of 3"
    ours = [float(one["val/mIoU mean"]) for one in table(folder, "phase_1_lr")]
    theirs = [float(one["published mIoU"]) for one in table(folder, "phase_1_lr")]
    expected = stats.spearmanr(theirs, ours).statistic
    assert float(row["rank correlation (Spearman)"]) == pytest.approx(expected)
    assert found["mAP"]["rank correlation (Spearman)"] == ""


def test_a_single_configuration_has_no_rank(folder: Path) -> None:
    found = {row["metric"]: row for row in table(folder, "published")}
    assert found["mAP"]["rank here of the best published"] == "the only one"


def test_conditions_stand_beside_each_other(folder: Path) -> None:
    text = (folder / "report.md").read_text().partition("## Beside what was published")[2]
    assert "Published: VOC, 21 h\n" in text
    for line in (
        "Data set: mine",
        "12 images: 8 training, 4 validation",
        "1 epoch",
        "Budget: smoke",
    ):
        assert f"- {line}\n" in text
    assert "- 3 seeds, figures of the best epoch on validation data\n" in text
    assert "- Phase 1: lr: optimizer.lr=1e-1: mIoU 0.01000\n" in text


def test_columns_without_any_published_value_are_left_out(tmp_path: Path) -> None:
    published = {"lr": {"optimizer.lr=1e-1": {"mIoU": 0.01}}}
    Synthetic(seeds=[0], journal={"published": published}).write(tmp_path)
    text = write_report(tmp_path).with_name("report.md").read_text()
    assert "Published, and not among the configurations here" in text
    assert not any("published" in title for title in table(tmp_path, "phase_1_lr")[0])


def test_without_published_values_there_is_no_section(tmp_path: Path) -> None:
    Synthetic(seeds=[0]).write(tmp_path)
    text = write_report(tmp_path).with_name("report.md").read_text()
    assert "Beside what was published" not in text
