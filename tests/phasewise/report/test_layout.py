from __future__ import annotations

import pytest

from phasewise.report.content import Column
from phasewise.report.layout import parts_on_paper

NAMES = [Column("rank", "count"), Column("key"), Column("phase")]


def table(count: int, names: list[Column]) -> tuple[list[Column], list[list[str]]]:
    columns = [*names, *(Column(f"score {n}", "number") for n in range(count))]
    return columns, [["1" if column.is_numeric else "some.key" for column in columns]] * 3


def test_a_table_that_can_be_read_stays_whole() -> None:
    columns, rows = table(3, NAMES)
    (part,) = parts_on_paper(columns, rows, 500)
    assert [*part.columns] == [*range(6)]
    assert part.size == 8.5


@pytest.mark.parametrize("names", [NAMES, NAMES[1:]])
def test_each_part_of_a_wide_one_names_its_rows(names: list[Column]) -> None:
    columns, rows = table(30, names)
    parts = parts_on_paper(columns, rows, 500)
    assert len(parts) > 1
    first = len(names)
    assert all([*part.columns][:first] == [*range(first)] for part in parts)
    assert [i for part in parts for i in [*part.columns][first:]] == [*range(first, first + 30)]
    assert min(part.size for part in parts) >= 7
    counts = [len(part.columns) for part in parts]
    assert max(counts) - min(counts) <= 2, "of about the same width"


def test_a_path_does_not_take_the_room_of_numbers() -> None:
    columns = [Column("run"), *(Column(f"c{n}", "number") for n in range(6))]
    path = "/".join(["a_long_name_of_a_folder"] * 6)
    (part,) = parts_on_paper(columns, [[path, *["0.1234 ± 0.1234"] * 6]], 600)
    assert part.widths == [len("a_long_name_of_a_folder/") + 1, *[len("0.1234 ± 0.1234") + 1] * 6]
