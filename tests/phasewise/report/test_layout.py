from __future__ import annotations

import pytest

from phasewise.report.content import Column
from phasewise.report.layout import READABLE, Part, parts_on_paper, points_of, wrapped_widths
from phasewise.report.page import PRINTED

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


def test_a_configuration_stands_beside_the_one_it_started_from() -> None:
    """Classes and keys may go on behind their dots, and so all columns have room on a page."""
    columns = [Column(name) for name in ("group", "key", "best", "start", "decided in")]
    name = "segmentation.predict.SegmentationPredictor"
    rows = [
        ["early_stopping", "trainer.gradient_clip_algorithm", name, name, "init_scheme"],
        ["model", "model.segmentation_head", "unet", "fcn", "architecture"],
    ]
    (part,) = parts_on_paper(columns, rows, PRINTED)
    assert [*part.columns] == [0, 1, 2, 3, 4]
    assert part.size >= READABLE


def test_wide_letters_of_a_title_have_room() -> None:
    widths = wrapped_widths([Column("peak memory [MB]", "number")], [["1.5"]], 28)
    assert widths == [1 + len("memory") + 1]  # "memor-y" in a word processor otherwise


def test_room_that_is_left_goes_to_cells_of_several_lines() -> None:
    rows = [["key", "why"], ["lr", "a sentence " * 20]]
    part = Part([0, 1], [4, 29], 8.0)
    narrow, wide = points_of(part, rows, 500)
    assert (narrow, narrow + wide) == (pytest.approx(4 * 8 * 0.64 + 6), pytest.approx(500))
    assert points_of(part, [["key", "why"]], 500)[1] == pytest.approx(29 * 8 * 0.64 + 6)
    assert sum(points_of(part, rows, 50)) == pytest.approx(50)
