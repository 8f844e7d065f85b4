"""What a report says of the data of its runs, from records of this and of an earlier version."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import RunRecord
from phasewise.report.report import write_report
from tests.phasewise.study.synthetic import CLEAN_DEFAULTS, Row, Settings, Synthetic

pytestmark = pytest.mark.usefixtures("undrawn")

DATA: dict[str, Any] = {
    "counts": {"train": 70, "val": 15, "test": 0},
    "hash": "abc123",
    "hashes": {"train": "t1", "val": "v1"},
    "rejected": [
        {"file": "images/a.png", "reason": "no mask"},
        {"file": "images/b.png", "reason": "no mask"},
        {"file": "images/c.png", "reason": "not an image"},
    ],
    "warnings": [{"file": "images/d.png", "reason": "is in train and val"}],
    "name": "my_beads",
    "what": "a folder of images and masks",
    "image_size": 256,
    "resize": "letterbox",
    "classes": ["background", "foreground"],
    "split_rule": "70/15/15 by hashed name, split_seed=0",
    "facts": {
        "train": {"foreground share": 0.12, "pixels": {"background": 0.88, "foreground": 0.12}},
        "val": {"foreground share": 0.125, "objects": 1640},
    },
}


def report_of(folder: Path, data: Any) -> str:
    """The Markdown of a study whose records say this of their data."""

    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data = data(settings) if callable(data) else data

    Synthetic(edit=edit, seeds=[0]).write(folder)
    text = write_report(folder).with_name("report.md").read_text()
    return text.partition("## Data\n")[2].partition("\n## ")[0]


def test_limits_of_batches_are_said_with_the_data(tmp_path: Path) -> None:
    limits = {"trainer.limit_train_batches": 2, "trainer.limit_val_batches": 0.5}
    whole = {"trainer.limit_test_batches": 1.0, "trainer.overfit_batches": 0}
    Synthetic(seeds=[0], defaults={**CLEAN_DEFAULTS, **limits, **whole}).write(tmp_path)
    text = write_report(tmp_path).with_name("report.md").read_text().replace("\\", "")
    assert (
        "Not all of it was used: an epoch trains on 2 batches (trainer.limit_train_batches=2); "
        "validation scores, trivial predictors and figures are of 0.5 of all batches "
        "(trainer.limit_val_batches=0.5).\n"
    ) in text.partition("## Data\n")[2].partition("\n## ")[0]
    Synthetic(seeds=[0], defaults={**CLEAN_DEFAULTS, **whole}).write(tmp_path / "whole")
    assert "Not all" not in write_report(tmp_path / "whole").with_name("report.md").read_text()


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open() as file:
        return [*csv.DictReader(file)]


def test_one_data_set_is_described(tmp_path: Path) -> None:
    text = report_of(tmp_path, DATA)
    for line in (
        r"- Data set: my\_beads (a folder of images and masks)",
        "- 85 images: 70 training, 15 validation",
        r"- Splits: 70/15/15 by hashed name, split\_seed=0",
        "- The network sees 256 x 256 pixels (padded to a square)",
        "- 2 classes: background, foreground",
        "- Hash of all samples: abc123; the same hash means the same data",
    ):
        assert f"{line}\n" in text
    assert "Shares are fractions" in text
    train, val = table(tmp_path, "data")
    assert train == {
        "split": "training",
        "images": "70",
        "foreground share": "0.12",
        "objects": "",
        "hash": "t1",
    }
    assert (val["objects"], val["hash"]) == ("1640", "v1")
    rows = table(tmp_path, "classes")
    assert rows[1] == {"class": "foreground", "pixels, training": "0.12"}


def test_what_was_left_out_and_what_was_odd_is_told(tmp_path: Path) -> None:
    report_of(tmp_path, DATA)
    first, second = table(tmp_path, "data_left_out")
    assert first == {"reason": "no mask", "count": "2", "where": "images/a.png, images/b.png"}
    assert second["where"] == "images/c.png"
    assert table(tmp_path, "data_odd")[0]["reason"] == "is in train and val"


def test_several_data_sets_have_a_row_each(tmp_path: Path) -> None:
    def data(settings: Settings) -> dict[str, Any]:
        large = settings.get("optimizer.lr") == 1e-2
        return {**DATA, "image_size": 512} if large else {**DATA, "rejected": []}

    text = report_of(tmp_path, data)
    assert "The runs were trained on 2 different data, numbered here." in text
    rows = {row["image size"]: row for row in table(tmp_path, "data_sets")}
    # three learning rates with one seed, then two more activations at the best of them
    assert (rows["512 x 512"]["runs"], rows["256 x 256"]["runs"]) == ("1", "4")
    assert rows["256 x 256"]["phases"] == "lr, activation"
    assert len(table(tmp_path, "data")) == 4
    assert {row["data"] for row in table(tmp_path, "data_left_out")} == {rows["512 x 512"]["data"]}


def test_records_of_an_earlier_version_show_what_they_have(tmp_path: Path) -> None:
    text = report_of(tmp_path, {"counts": {"train": 8, "val": 4}, "split_hash": "x"})
    assert "12 images: 8 training, 4 validation" in text
    assert "Shares" not in text
    assert "of an earlier version" in text
    assert [row["images"] for row in table(tmp_path, "data")] == ["8", "4"]


def test_metrics_of_the_truth_stand_for_facts_that_older_records_lack(tmp_path: Path) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data = {"counts": {"train": 8, "val": 4}}
        record.best["val/truth/foreground"] = 0.25

    Synthetic(edit=edit, seeds=[0]).write(tmp_path)
    write_report(tmp_path)
    assert [row["foreground"] for row in table(tmp_path, "data")] == ["", "0.25"]


@pytest.mark.parametrize("data", [{}, {"has_test": True}])
def test_foreign_data_that_say_nothing_have_no_section(tmp_path: Path, data: Any) -> None:
    assert report_of(tmp_path, data) == ""
