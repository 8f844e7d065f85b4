"""Fusing boxes, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from phasewise.inference.prediction.boxes import Boxes, fuse, mirrored


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_mirrored() -> None:
    found = mirrored(np.array([[1.0, 2.0, 4.0, 8.0]]), 10)
    assert found.tolist() == [[6, 2, 9, 8]]
    assert mirrored(found, 10).tolist() == [[1, 2, 4, 8]]


def test_one_set_is_kept_as_it_is() -> None:
    one = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 11, 0.8, 1))
    assert fuse([one]) is one


def test_the_same_object_is_a_mean_weighted_by_score() -> None:
    found = fuse([boxes((0, 0, 10, 10, 0.6, 1)), boxes((2, 0, 12, 10, 0.3, 1))])
    # (0.6 * 0 + 0.3 * 2) / 0.9, and so on; both networks saw it
    assert found.boxes[0].tolist() == pytest.approx([2 / 3, 0, 10 + 2 / 3, 10])
    assert found.scores.tolist() == pytest.approx([0.45])
    assert found.labels.tolist() == [1]


def test_an_object_that_one_network_missed_counts_less() -> None:
    found = fuse([boxes((0, 0, 10, 10, 0.9, 2)), boxes((50, 50, 60, 60, 0.8, 1)), boxes()])
    assert found.scores.tolist() == pytest.approx([0.3, 0.8 / 3])
    assert found.labels.tolist() == [2, 1]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [50, 50, 60, 60]]


def test_classes_are_not_mixed_and_distant_boxes_neither() -> None:
    same_place = fuse([boxes((0, 0, 10, 10, 0.9, 1)), boxes((0, 0, 10, 10, 0.9, 2))])
    apart = fuse([boxes((0, 0, 10, 10, 0.9, 1)), boxes((5, 0, 15, 10, 0.9, 1))])  # IoU 1/3
    assert len(same_place.boxes) == len(apart.boxes) == 2


def test_later_boxes_are_compared_with_the_mean() -> None:
    found = fuse(
        [
            boxes((0, 0, 20, 10, 0.8, 1)),
            boxes((4, 0, 24, 10, 0.8, 1)),
            boxes((-4, 0, 16, 10, 0.7, 1)),
        ]
    )
    # The first two have an IoU of 16 / 24 and become 2..22. The third has 16 / 24 with the first
    # one, but 14 / 26 with that mean, which is below .55.
    assert found.boxes[0].tolist() == pytest.approx([2, 0, 22, 10])
    assert found.scores.tolist() == pytest.approx([0.8 * 2 / 3, 0.7 / 3])


def test_nothing_found() -> None:
    found = fuse([boxes(), boxes()])
    assert found.boxes.shape == (0, 4)
    assert len(found.scores) == len(found.labels) == 0
