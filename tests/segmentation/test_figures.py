"""Pictures show what they say: colours of errors, marks of the threshold, points of counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segmentation.figures import (
    EXTRA,
    HIT,
    MISSED,
    UNLABELLED,
    Example,
    counts_figure,
    error_map,
    examples_figure,
    image_jaccard,
    make_example,
    precision_recall_figure,
)


def example() -> Example:
    truth = torch.tensor([[1, 1, 0, 0], [1, 1, 255, 255]])
    prediction = torch.tensor([[1, 0, 1, 0], [1, 0, 1, 0]]).bool()
    return make_example("a_$x$.png", torch.zeros(3, 2, 4), truth, prediction)


def test_the_error_map_tells_hits_extras_misses_and_void_apart() -> None:
    found = {colour: where.astype(int).tolist() for colour, where in error_map(example()).items()}
    assert found == {
        HIT: [[1, 0, 0, 0], [1, 0, 0, 0]],
        EXTRA: [[0, 0, 1, 0], [0, 0, 0, 0]],
        MISSED: [[0, 1, 0, 0], [0, 1, 0, 0]],
        UNLABELLED: [[0, 0, 0, 0], [0, 0, 1, 1]],
    }
    assert example().score == pytest.approx(2 / 5)  # void counts for nothing


def test_an_image_without_truth_and_prediction_is_right() -> None:
    nothing = torch.zeros(2, 3, 3)
    one = nothing.clone()
    one[1, 0, 0] = 1
    assert image_jaccard(nothing.bool(), one).tolist() == [1.0, 0.0]


def test_examples_have_four_pictures_each() -> None:
    figure = examples_figure("best", [example(), example()])
    assert len(figure.axes) == 8
    assert figure.axes[0].get_title() == "a_$x$.png   Jaccard 0.40"
    figure.canvas.draw()  # a name is no formula


def test_the_chosen_threshold_is_marked_on_the_curve() -> None:
    histogram = torch.zeros(2, 256, dtype=torch.int64)
    histogram[0, 10], histogram[0, 200] = 80, 10
    histogram[1, 100], histogram[1, 250] = 10, 20
    left, right = precision_recall_figure(histogram, 0.5, "val").axes
    x, y = np.asarray(left.lines[1].get_xydata())[0]
    assert (x, y) == (20 / 30, 20 / 30)  # at .5: 20 of 30 found, 10 wrong
    assert np.allclose(right.lines[0].get_ydata()[128], 20 / 40)


def test_counts_are_points() -> None:
    (ax,) = counts_figure([(3, 4), (10, 10)], "val").axes
    assert ax.collections[0].get_offsets().tolist() == [[4, 3], [10, 10]]
    assert "mean error 0.5" in ax.get_title()
    counts_figure([], "val")
