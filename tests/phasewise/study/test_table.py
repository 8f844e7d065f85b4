from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import RECORD, RunRecord
from phasewise.study.table import (
    best_row,
    format_table,
    placeholder_record,
    sweep_table,
    trial_labels,
    write_csv,
)


def record(
    overrides: str, value: float | None, status: str = "completed", **more: Any
) -> RunRecord:
    goal = {"metric": "val/mIoU", "mode": "max", "value": value, "epoch": 4}
    settings: dict[str, Any] = {
        "directory": Path("sweep") / overrides,
        "task": "multitask",
        "fingerprint": "0" * 16,
        "overrides": overrides.split(),
        "seed": 0,
        "objective": goal,
        "status": status,
        "best": {"val/loss": 1 / 3, "val/mIoU": value},
        "cost": {"seconds": 61.25},
    }
    return RunRecord(**(settings | more))


def test_columns_of_a_completed_sweep() -> None:
    table = sweep_table(
        [
            record("trainer.max_epochs=5 optimizer.lr=1e-3 data.augment=[flip]", 0.5),
            record("trainer.max_epochs=5 optimizer.lr=0.01 data.augment=[]", 0.123456789),
        ]
    )
    assert list(table.columns) == [
        *("optimizer.lr", "data.augment", "val/mIoU", "epoch", "val/loss", "seconds")
    ]
    assert table["optimizer.lr"].tolist() == [0.001, 0.01]
    assert table["data.augment"].tolist() == ["[flip]", "[]"]
    assert table["val/mIoU"].tolist() == [0.5, 0.123456789]
    assert table["epoch"].tolist() == [4, 4]
    assert table.index[1].startswith("trainer.max_epochs=5")
    assert best_row(table) == 0


def test_all_keys_where_none_differs() -> None:
    one = [record("optimizer.lr=0.1 model.activation=gelu", 0.5)]
    assert list(sweep_table(one).columns[:2]) == ["optimizer.lr", "model.activation"]
    twice = [record("seed=1", 0.5), record("seed=1", 0.4)]
    assert sweep_table(twice)["seed"].tolist() == [1, 1]
    assert "epoch" in sweep_table([record("", 0.5)]).columns


def test_values_read_as_typed() -> None:
    words = ["test=True", "test=null", "test='1'", "test=1", "+test=a", "~test", "seed=1"]
    column = sweep_table([record(word, 0.5) for word in words])["test"].tolist()
    assert column == ["true", "null", "1", 1, "a", "(removed)", None]


def test_only_completed_trials_with_a_number_can_be_best() -> None:
    rows = [
        record("seed=0", None),
        record("seed=1", math.nan),
        record("seed=2", math.inf),
        record("seed=3", 0.9, status="diverged"),
        record("seed=4", 0.2),
        record("seed=5", 0.3),
        record("seed=6", 0.3),
        placeholder_record("sweep/seed=7", ["seed=7"]),
    ]
    table = sweep_table(rows)
    assert best_row(table) == 5
    assert table["status"].tolist() == ["completed"] * 3 + ["diverged"] + ["completed"] * 3 + [
        "unfinished"
    ]
    lower = {"metric": "val/mIoU", "mode": "min", "epoch": 0}
    for row in rows[:-1]:
        row.objective |= lower
    assert best_row(sweep_table(rows)) == 4
    assert best_row(sweep_table(rows[:4])) is None


def test_different_objectives_have_no_best() -> None:
    other = {"metric": "val/mAP", "mode": "max", "value": 0.9, "epoch": 1}
    rows = [record("objective.metric=val/mIoU", 0.5), record("objective.metric=val/mAP", 0)]
    rows[1].objective = other
    table = sweep_table(rows)
    assert table["objective"].tolist() == [0.5, 0.9]
    assert best_row(table) is None
    assert "*" not in format_table(table)


def test_terminal_text() -> None:
    rows = [
        record("optimizer.lr=1e-3", 0.123456, cost={"seconds": 3725.26, "parameters": 11181642}),
        record("optimizer.lr=0.01", 0.5, best={"val/loss": None, "val/mIoU": 0.5}),
    ]
    assert format_table(sweep_table(rows), width=200).splitlines() == [
        "  optimizer.lr val/mIoU epoch val/loss  parameters seconds",
        "         0.001   0.1235     4   0.3333  11,181,642  3725.3",
        "*         0.01   0.5000     4        -           -    61.2",
    ]


def test_parts_of_metrics_are_left_to_the_csv() -> None:
    best = {"val/mIoU": 0.5, "val/IoU/circle": 0.4, "train/loss/detection": 1.0, "val/mAP": 0.1}
    table = sweep_table([record("seed=0", 0.5, best=best)])
    assert "val/IoU/circle" in table.columns
    assert format_table(table, width=200).split()[:4] == ["seed", "val/mIoU", "epoch", "val/mAP"]


def test_labels_say_what_differs() -> None:
    rows = [record("a=1 b=x c=2", 0.5), record("a=1 b=y c=3", 0.5)]
    assert trial_labels(rows) == ["b=x c=2", "b=y c=3"]
    assert trial_labels(rows[:1]) == ["a=1 b=x c=2"]
    assert trial_labels([record("", 0.5, directory=Path("out/default"))]) == ["default"]


@pytest.mark.parametrize("width", [1, 20, 30, 45, 80])
def test_a_narrow_terminal_gets_all_but_other_metrics(width: int) -> None:
    best = {"val/mIoU": 0.5, "val/loss": 1 / 3, "val/mAP": 0.25}
    rows = [
        record(f"optimizer.lr={lr} model.activation={a}", lr, best=best)
        for lr in (1, 2)
        for a in "ab"
    ]
    table = sweep_table(rows)
    text = format_table(table, width=width)
    for column in ("optimizer.lr", "model.activation", "val/mIoU", "epoch", "seconds"):
        assert column in text
    assert ("val/loss" in text) == ("val/mAP" in text) == (width == 80)
    assert max(len(line.rstrip(" \\")) for line in text.splitlines()) <= max(width, 19)
    assert text.count("*") == text.count("\n\n") + 1


def test_as_many_metrics_as_fit() -> None:
    best = {"val/mIoU": 0.5, "val/loss": 1 / 3, "val/mAP": 0.25}
    table = sweep_table([record("seed=0", 0.5, best=best)])
    lines = {width: format_table(table, width=width).splitlines()[0] for width in range(30, 50)}
    assert lines[31].split() == ["seed", "val/mIoU", "epoch", "seconds"]
    assert lines[40].split() == ["seed", "val/mIoU", "epoch", "val/loss", "seconds"]
    assert lines[48].split() == ["seed", "val/mIoU", "epoch", "val/loss", "val/mAP", "seconds"]


def test_csv_is_not_rounded(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    rows = [record("seed=0 data.augment=[a,b]", 0.1 + 0.2), record("seed=1", None, "failed")]
    write_csv(sweep_table(rows), path)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert next(iter(first)) == "trial"
    assert first["trial"] == "seed=0 data.augment=[a,b]"
    assert first["data.augment"] == "[a,b]"
    assert float(first["val/mIoU"]) == 0.1 + 0.2
    assert float(first["val/loss"]) == 1 / 3
    assert first["epoch"] == "4"
    assert second["val/mIoU"] == ""
    assert second["status"] == "failed"


def test_directories_are_read(tmp_path: Path) -> None:
    done = record("seed=0", 0.5, directory=tmp_path / "seed=0")
    done.write()
    (tmp_path / "seed=1").mkdir()
    (tmp_path / "seed=1" / RECORD).write_text("{")
    table = sweep_table([tmp_path / "seed=0", str(tmp_path / "seed=1"), tmp_path / "seed=2"])
    assert table["status"].tolist() == ["completed", "unfinished", "unfinished"]
    assert table.index.tolist() == ["seed=0", "seed=1", "seed=2"]
    assert best_row(table) == 0
