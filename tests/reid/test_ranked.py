"""Ranked lists for pictures agree with the evaluator and leave out what does not count."""

from __future__ import annotations

import pytest
import torch

from reid.figures import RIGHT, WRONG, cmc_figure, ranked_figure
from reid.metrics import ReidRetrieval
from reid.ranked import Ranked, ranked_lists

# Two queries, five gallery images on a line; the first gallery image is the query itself.
FEATURES = torch.tensor([[0.0], [10.0], [0.0], [1.0], [2.0], [9.0], [3.0]])
LABELS = torch.tensor([7, 8, 7, 9, 7, 8, -1])
CAMERAS = torch.tensor([1, 1, 1, 2, 2, 2, 2])
IS_QUERY = torch.tensor([True, True, False, False, False, False, False])


def test_lists_leave_out_the_own_camera_and_junk() -> None:
    best, worst = ranked_lists(FEATURES, LABELS, CAMERAS, IS_QUERY, "euclidean", 10)
    assert (best.query, best.rows, best.right) == (1, [5, 4, 3, 2], [True, False, False, False])
    assert (worst.query, worst.rows, worst.right) == (0, [3, 4, 5], [False, True, False])
    assert (best.average_precision, worst.average_precision) == (1.0, 0.5)


def test_without_cameras_every_image_counts() -> None:
    found = ranked_lists(FEATURES, LABELS, None, IS_QUERY, "euclidean", 2)
    assert {one.query: one.rows for one in found} == {0: [2, 3], 1: [5, 4]}


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_average_precision_is_the_evaluators(distance: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    labels = torch.randint(0, 6, (60,), generator=generator)
    cameras = torch.randint(0, 3, (60,), generator=generator)
    is_query = torch.arange(60) < 15
    metric = ReidRetrieval(distance)
    metric.update(features, labels, cameras, is_query)
    found = ranked_lists(features, labels, cameras, is_query, distance, 10)
    mean = sum(one.average_precision for one in found) / len(found)
    assert mean == pytest.approx(float(metric.compute()["mAP"]), abs=1e-6)
    precisions = [one.average_precision for one in found]
    assert precisions == sorted(precisions, reverse=True)


def test_frames_tell_right_from_wrong() -> None:
    picture = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    one = Ranked(0, 0.5, [1, 2], [False, True])
    figure = ranked_figure("best", [one], lambda row: picture, lambda row: f"id {row}", 3)
    assert len(figure.axes) == 4
    wrong, right = figure.axes[1], figure.axes[2]
    for ax, colour, style in ((wrong, WRONG, "--"), (right, RIGHT, "-")):
        spine = ax.spines["left"]
        rgb = tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert spine.get_edgecolor()[:3] == pytest.approx(rgb)
        assert spine.get_linestyle() == style
    assert "AP 0.50" in figure.axes[0].get_title()
    ranked_figure("nothing to find", [], lambda row: picture, str)


def test_the_curve_is_drawn_rank_by_rank() -> None:
    (line,) = cmc_figure([0.25, 0.5, 1.0], "a").axes[0].lines
    assert line.get_xydata().tolist() == [[1, 0.25], [2, 0.5], [3, 1.0]]
