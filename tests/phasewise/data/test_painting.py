"""Painted shapes against the formulas of their areas."""

from __future__ import annotations

import numpy as np
import pytest

from phasewise.data.painting import (
    cone_distance,
    fill,
    fill_polygon,
    floats,
    image_stream,
    interpolation,
    noisy,
    pixel_centres,
    tight_box,
    to_uint8,
)

SIZE = 96
WHITE = np.ones(3, np.float32)


def _painted_area(cones: object, size: int = SIZE) -> float:
    canvas, line = np.zeros((3, size, size), np.float32), pixel_centres(size)
    distance = cone_distance(floats(cones), line[None, :], line[:, None])
    fill(canvas, distance, WHITE[:, None, None], size)
    assert (canvas[0] == canvas[2]).all()
    return float(canvas[0].mean())


@pytest.mark.parametrize("radius", [0.05, 0.21, 0.4])
def test_a_cone_with_equal_ends_is_a_disk(radius: float) -> None:
    area = _painted_area([[0.47, 0.52, 0.47, 0.52, radius, radius]])
    assert area == pytest.approx(np.pi * radius**2, rel=0.01)


@pytest.mark.parametrize("size", [64, 200])
def test_a_cone_with_equal_radii_is_a_line_with_round_ends(size: int) -> None:
    length, radius = np.hypot(0.4, 0.3), 0.08
    area = _painted_area([[0.3, 0.35, 0.7, 0.65, radius, radius]], size)
    assert area == pytest.approx(2 * radius * length + np.pi * radius**2, rel=0.01)


def test_the_nearest_of_several_cones_counts_and_a_blend_only_adds() -> None:
    cones = floats([[0.3, 0.5, 0.3, 0.5, 0.1, 0.1], [0.52, 0.5, 0.52, 0.5, 0.1, 0.1]])
    x, y = floats([[0.3, 0.41, 0.52]]), floats([[0.5]])
    np.testing.assert_allclose(cone_distance(cones, x, y), [[-0.1, 0.01, -0.1]], atol=1e-6)
    blended = cone_distance(cones, x, y, blend=0.08)
    np.testing.assert_allclose(blended, [[-0.1, 0.01 - 0.08 / 4, -0.1]], atol=1e-6)


@pytest.mark.parametrize("corners", [3, 4, 7, 20])
@pytest.mark.parametrize("sense", [1, -1])
def test_a_polygon_covers_its_area(corners: int, sense: int) -> None:
    angle = sense * (np.arange(corners) * 2 * np.pi / corners + 0.3)
    points = floats(0.5 + 0.35 * np.stack([np.cos(angle), np.sin(angle)], 1))
    x, y = points.T
    shoelace = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    canvas = np.zeros((3, SIZE, SIZE), np.float32)
    fill_polygon(canvas, points, WHITE, alpha=0.5)
    assert canvas[1].mean() == pytest.approx(0.5 * shoelace, rel=0.01)


def test_a_polygon_thinner_than_a_pixel_keeps_its_area() -> None:
    canvas = np.zeros((3, SIZE, SIZE), np.float32)
    high = 0.3 / SIZE
    fill_polygon(
        canvas, floats([(0.2, 0.5), (0.8, 0.5), (0.8, 0.5 + high), (0.2, 0.5 + high)]), WHITE
    )
    assert canvas[0].mean() == pytest.approx(0.6 * high, rel=0.05)


def test_of_a_polygon_outside_nothing_is_painted() -> None:
    canvas = np.zeros((3, SIZE, SIZE), np.float32)
    fill_polygon(canvas, floats([(1.2, 0.1), (1.5, 0.1), (1.5, 0.9)]), WHITE)
    assert not canvas.any()


def test_linear_interpolation_is_numpys() -> None:
    nodes, places = np.random.default_rng(0).random(7), floats(np.linspace(0, 1, 50))
    expected = np.interp(places, np.linspace(0, 1, 7), nodes)
    np.testing.assert_allclose(interpolation(places, 7, smooth=False) @ nodes, expected, atol=1e-5)


def test_smooth_interpolation_passes_through_the_nodes_and_is_flat_there() -> None:
    nodes = np.random.default_rng(1).random(5)
    at, beside = (floats(np.linspace(0, 1, 5)[1:-1] + step) for step in (0, 1e-3))
    np.testing.assert_allclose(interpolation(at, 5) @ nodes, nodes[1:-1], atol=1e-6)
    np.testing.assert_allclose(interpolation(beside, 5) @ nodes, nodes[1:-1], atol=1e-4)
    np.testing.assert_allclose(interpolation(floats(np.linspace(0, 1, 33)), 5).sum(1), 1, atol=1e-6)


def test_noise_has_its_deviation_and_rounding_cuts_off() -> None:
    rng = np.random.default_rng(2)
    values = noisy(np.full((3, 200, 200), 100, np.float32), 7.0, rng)
    assert values.mean() == pytest.approx(100, abs=0.1)
    assert values.std() == pytest.approx(7, rel=0.02)
    assert to_uint8(floats([-3, 0.4, 0.6, 254.6, 300])).tolist() == [0, 0, 1, 255, 255]


def test_a_tight_box_holds_the_outermost_pixels() -> None:
    pixels = np.zeros((9, 12), bool)
    assert tight_box(pixels) is None
    pixels[2, 5] = pixels[6, 3] = True
    assert tight_box(pixels) == (3, 2, 6, 7)


def test_streams_differ_by_seed_split_and_index_but_not_by_size() -> None:
    places = [("train", 0, 0), ("val", 0, 0), ("train", 1, 0), ("train", 0, 1)]
    first, other = (
        [image_stream(split, i, size=size, seed=seed).random() for split, i, seed in places]
        for size in (16, 64)
    )
    assert first == other
    assert len(set(first)) == len(places)


@pytest.mark.parametrize(
    ("split", "index", "size", "seed"),
    [("trian", 0, 64, 0), ("train", -1, 64, 0), ("train", 0, 15, 0), ("train", 0, 64, -1)],
)
def test_a_stream_that_there_is_not_is_refused(
    split: str, index: int, size: int, seed: int
) -> None:
    with pytest.raises(ValueError, match=r"split must be one of|need index >= 0, size >= 16"):
        image_stream(split, index, size=size, seed=seed)
