from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from localization.figures import (
    border_distance,
    examples_figure,
    iou_bands,
    iou_by_border,
    iou_by_size,
    iou_histogram,
    make_example,
    running_median,
)

TRUTH = torch.tensor([0.25, 0.25, 0.75, 0.75])


def drawn(figure: Figure) -> Figure:
    """The same figure, after everything in it was drawn once."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_examples_show_both_boxes_where_they_are() -> None:
    shifted = TRUTH + torch.tensor([0.25, 0.0, 0.25, 0.0])
    example = make_example("cost_$5_$.jpg", torch.zeros(3, 64, 64), TRUTH, shifted)
    assert example.score == pytest.approx(1 / 3)
    figure = drawn(examples_figure("best", [example] * 5))
    shown = [ax for ax in figure.axes if ax.patches]
    assert len(shown) == 5
    truth, prediction = shown[0].patches
    assert truth.get_bbox().extents == pytest.approx([15.5, 15.5, 47.5, 47.5])
    assert prediction.get_bbox().extents == pytest.approx([31.5, 15.5, 63.5, 47.5])
    assert (truth.get_linestyle(), prediction.get_linestyle()) == ("-", "--")
    assert shown[0].get_title() == "cost_$5_$.jpg   IoU 0.33"


def test_histogram_marks_the_means() -> None:
    ious = np.array([0.1, 0.5, 0.52, 1.0])
    (ax,) = drawn(iou_histogram(ious, {"random_box": 0.15, "mean_box": 0.4}, "val")).axes
    assert sum(bar.get_height() for bar in ax.patches) == 4
    at = {line.get_label(): line.get_xdata()[0] for line in ax.lines}
    assert at == {"mean 0.530": ious.mean(), "mean_box 0.400": 0.4, "random_box 0.150": 0.15}


def test_iou_by_size_has_a_point_per_image() -> None:
    boxes = np.array([[0.0, 0.0, 0.4, 0.9], [0.5, 0.5, 0.6, 0.6]])
    (ax,) = drawn(iou_by_size(np.array([0.8, 0.3]), boxes)).axes
    (points,) = (c for c in ax.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(points.get_offsets(), [[0.6, 0.8], [0.1, 0.3]])


def test_bands_of_iou_are_shares_of_the_images() -> None:
    ious = {"network": np.array([0.0, 0.5, 0.51, 0.7, 0.9, 0.95, 1.0, 0.3]), "mean_box": np.ones(2)}
    shares = iou_bands(ious, "val")
    names = ["up to 0.5", "above 0.5 to 0.7", "above 0.7 to 0.9", "above 0.9"]
    assert shares.name == "iou_bands" and iou_bands(ious, "test").name == "test_iou_bands"
    assert shares.bars["network"] == dict(zip(names, (3 / 8, 2 / 8, 1 / 8, 2 / 8), strict=True))
    assert [*shares.bars["mean_box"].values()] == [0, 0, 0, 1]


def test_boxes_at_a_border_are_told_from_the_others() -> None:
    boxes = np.array([[0, 0.2, 0.5, 0.6], [0.2, 0.2, 0.9, 0.99], [0.3, 0.1, 0.6, 0.5]])
    assert border_distance(boxes) == pytest.approx([0, 0.01, 0.1])
    ious = np.array([0.2, 0.4, 0.9])
    figure = drawn(iou_by_border(ious, boxes, 64))
    (ax,) = figure.axes
    touching, inside = (c for c in ax.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(touching.get_offsets(), [[0, 0.2], [0.01, 0.4]])
    np.testing.assert_allclose(inside.get_offsets(), [[0.1, 0.9]])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        "touching a border: 2 images, mean IoU 0.300",
        "inside: 1 images, mean IoU 0.900",
    ]
    (ax,) = iou_by_border(ious, boxes, 200).axes  # 2 pixels away
    assert len(ax.collections[0].get_offsets()) == 1


@pytest.mark.parametrize("window", [1, 4, 7, 20])
def test_running_median_against_brute_force(window: int) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.random(20), draw.random(20)
    at, medians = running_median(x, y, window)
    pairs = sorted(zip(x, y, strict=True))
    for i in range(21 - window):
        near = pairs[i : i + window]
        assert at[i] == np.median([a for a, _ in near])
        assert medians[i] == np.median([b for _, b in near])
    assert len(at) == 21 - window


def test_without_images() -> None:
    none = np.zeros(0)
    for figure in (
        examples_figure("worst", []),
        iou_histogram(none, {}, "val"),
        iou_by_size(none, np.zeros((0, 4))),
        iou_by_border(none, np.zeros((0, 4)), 64),
    ):
        drawn(figure)
