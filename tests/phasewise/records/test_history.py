from __future__ import annotations

import math
from pathlib import Path

import pytest

from phasewise.records.history import FILE, History, read_history


def _filled(directory: Path, *values: float) -> History:
    history = History(directory)
    for epoch, value in enumerate(values, start=1):
        history.append({"epoch": epoch, "val/mIoU": value})
    return history


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    assert History(tmp_path).best("val/mIoU", "max") is None


def test_what_was_appended_is_read_again_to_the_last_bit(tmp_path: Path) -> None:
    rows = [
        {"epoch": 0, "train/loss": 0.1 + 0.2, "val/mIoU": 1 / 3},
        {"epoch": 1, "train/loss": 1e-300, "val/mIoU": math.pi},
    ]
    history = History(tmp_path)
    for row in rows:
        history.append(row)
    assert read_history(tmp_path) == rows
    assert History(tmp_path).rows == rows
    assert all(isinstance(row["epoch"], int) for row in read_history(tmp_path))


def test_undefined_values_stay_nan(tmp_path: Path) -> None:
    _filled(tmp_path, math.nan)
    (row,) = read_history(tmp_path)
    assert math.isnan(row["val/mIoU"])


def test_a_column_may_come_later_and_be_missing_again(tmp_path: Path) -> None:
    rows = [
        {"epoch": 0, "train/loss": 3.0},
        {"epoch": 1, "train/loss": 2.0, "val/mIoU": 0.5},
        {"epoch": 2, "train/loss": 1.0},
    ]
    history = History(tmp_path)
    for row in rows:
        history.append(row)
    assert read_history(tmp_path) == rows
    header, *lines = (tmp_path / FILE).read_text().splitlines()
    assert header == "epoch,train/loss,val/mIoU"
    assert lines[0] == "0,3.0,"
    best = history.best("val/mIoU", "max")
    assert best is not None
    assert best["epoch"] == 1


def test_the_file_is_replaced_never_half_written(tmp_path: Path) -> None:
    _filled(tmp_path, 0.1, 0.2)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_resumed_run_writes_over_what_it_does_again(tmp_path: Path) -> None:
    _filled(tmp_path, 0.1, 0.2, 0.3)
    resumed = History(tmp_path)
    resumed.cut(1)
    resumed.append({"epoch": 2, "val/mIoU": 0.9})
    assert read_history(tmp_path) == [
        {"epoch": 1, "val/mIoU": 0.1},
        {"epoch": 2, "val/mIoU": 0.9},
    ]
    resumed.cut(0)
    assert resumed.rows == []


@pytest.mark.parametrize(
    ("values", "mode", "epoch"),
    [
        ((0.2, 0.5, 0.4), "max", 2),
        ((0.2, 0.5, 0.1), "min", 3),
        ((0.5, 0.2, 0.5), "max", 1),  # of equals, the first
        ((0.5, 0.2, 0.2), "min", 2),
        ((math.nan, 0.2, math.nan), "max", 2),
        ((math.nan, 0.2, math.nan), "min", 2),
        ((-math.inf, 0.2, math.inf), "max", 2),
        ((-math.inf, 0.2, math.inf), "min", 2),
    ],
)
def test_best(tmp_path: Path, values: tuple[float, ...], mode: str, epoch: int) -> None:
    best = _filled(tmp_path, *values).best("val/mIoU", mode)
    assert best is not None
    assert best["epoch"] == epoch


def test_best_of_undefined_values_is_none(tmp_path: Path) -> None:
    history = _filled(tmp_path, math.nan, math.nan)
    assert history.best("val/mIoU", "max") is None
    assert history.best("val/mAP", "max") is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_files_that_another_program_saved(tmp_path: Path, end: str, start: bytes) -> None:
    text = end.join(["epoch,val/mIoU", "0,0.5", "", "1,0.25", ""])
    (tmp_path / FILE).write_bytes(start + text.encode())
    assert read_history(tmp_path) == [
        {"epoch": 0, "val/mIoU": 0.5},
        {"epoch": 1, "val/mIoU": 0.25},
    ]


@pytest.mark.parametrize(
    "last",
    [
        "1",
        "1,",
        "1,0.75,0.1",  # a number cut off: 0.1 of 0.125
        "1,0.75,oops\n",
        "one,0.75,0.125\n",
        "nan,0.75,0.125\n",
        "inf,0.75,0.125\n",
        ",0.75,0.125\n",
        "1,0.75,0.125,6\n",
        "\x00\ufffd\n",
    ],
)
def test_a_damaged_row_is_left_out(tmp_path: Path, last: str) -> None:
    (tmp_path / FILE).write_text(f"epoch,val/mIoU,val/loss\n0,0.5,0.25\n{last}")
    assert read_history(tmp_path) == [{"epoch": 0, "val/mIoU": 0.5, "val/loss": 0.25}]


@pytest.mark.parametrize("content", [b"", b"epoch,val", b"\xff\xfe\x00\n\x80\n", b"a,b\n1,2\n"])
def test_a_file_that_is_no_history_has_no_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_history(tmp_path) == []


def test_a_history_that_goes_on_writes_the_same_text(tmp_path: Path) -> None:
    rows = [{"epoch": n, "step": 2 * n, "seconds": 1.5, "val/loss": 1 / n} for n in (1, 2)]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
        History(folder).append(rows[0])
    resumed_history = History(resumed)
    resumed_history.append(rows[1])
    (whole / "metrics.csv").unlink()
    history = History(whole)
    for row in rows:
        history.append(row)
    assert (resumed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
