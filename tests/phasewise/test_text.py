"""How values, times and tables are written."""

from __future__ import annotations

import csv
import doctest

import pytest

from phasewise import text


def test_examples_in_docstrings() -> None:
    done = doctest.testmod(text)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (59.96, "1m 00s"),
        (3599.7, "1h 00m 00s"),
        (47 * 3600 + 59, "47h 00m 59s"),
        (50 * 3600, "2d 02h 00m"),
        (float("nan"), "-"),
    ],
)
def test_durations_carry(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_numbers_stand_on_the_right_and_names_on_the_left() -> None:
    rows = [["", "a", "bcd"], ["one", "1.25", "2"]]
    assert text.align(rows) == "        a  bcd\none  1.25    2"


def test_a_csv_file_is_read_back() -> None:
    rows = [["a", 'b "c", d'], ["1", "line\nline"]]
    assert [*csv.reader(text.csv_text(rows).splitlines(keepends=True))] == rows
