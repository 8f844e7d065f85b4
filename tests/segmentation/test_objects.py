from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon
from skimage.measure import label

from segmentation.objects import match_objects, split_objects

Map = NDArray[np.int32]
Mask = NDArray[np.bool_]

SMALL = {"min_area": 8, "min_distance": 3}


def _split(mask: Mask, **changes: int) -> Map:
    return split_objects(mask, **{**SMALL, **changes})


def _discs(discs: list[tuple[float, float, float]], size: int = 64) -> Map:
    """The index of the nearest (y, x, radius) at each pixel, from 1, or 0 outside of all."""
    y, x = np.mgrid[:size, :size]
    reach = np.stack([np.hypot(y - cy, x - cx) / r for cy, cx, r in discs])
    return np.where(reach.min(0) < 1, reach.argmin(0) + 1, 0)


def _field(size: int, beads: int, share: float, overlap: float, seed: int) -> Map:
    """Beads, half of them placed against another one."""
    draw = np.random.default_rng(seed)
    mean = np.sqrt(share * size**2 / beads / np.pi)
    discs: list[tuple[float, float, float]] = []
    while len(discs) < beads:
        r = mean * (1 + 0.15 * draw.uniform(-1, 1))
        y, x = draw.uniform(0, size, 2)
        if discs and draw.random() < 0.5:
            cy, cx, other = discs[draw.integers(len(discs))]
            angle, d = draw.uniform(0, 2 * np.pi), (1 - overlap) * (r + other) + 0.01
            y, x = cy + d * np.sin(angle), cx + d * np.cos(angle)
        free = all(np.hypot(y - a, x - b) > (1 - overlap) * (r + c) for a, b, c in discs)
        if 0 <= y < size and 0 <= x < size and free:
            discs.append((y, x, r))
    return _discs(discs, size)


def _same_partition(a: Map, b: Map) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))


# Splitting


@pytest.mark.parametrize("seed", range(3))
def test_objects_that_do_not_touch_are_the_connected_components(seed: int) -> None:
    truth = _field(160, 40, 0.15, overlap=-0.3, seed=seed)
    found = _split(truth > 0)
    assert found.dtype == np.int32
    assert found.max() == 40
    assert _same_partition(found, label(truth > 0))


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 7))
@pytest.mark.parametrize(("r1", "r2"), [(5, 5), (9.6, 9.6), (16, 16), (5, 8), (8, 14)])
@pytest.mark.parametrize("overlap", [0.0, 0.06, 0.12])
def test_two_touching_discs(r1: float, r2: float, overlap: float, angle: float) -> None:
    d = (1 - overlap) * (r1 + r2)
    y, x = 30.3, 31.6
    truth = _discs([(y, x, r1), (y + d * np.sin(angle), x + d * np.cos(angle), r2)], 80)
    found = _split(truth > 0)
    assert found.max() == 2
    assert min(_brute_force(found, truth).values()) > 0.8
    assert ((found > 0) == (truth > 0)).all()


@pytest.mark.parametrize("r", [4.8, 9.6, 20])
def test_three_discs_around_a_gap(r: float) -> None:
    """The gap between them is no pinhole of one object."""
    corners = [(0, 0), (0, 1.98 * r), (1.98 * r * np.sqrt(3) / 2, 0.99 * r)]
    truth = _discs([(y + 25.4, x + 25.2, r) for y, x in corners], 100)
    found = _split(truth > 0, min_area=int(r**2 / 2))
    assert found.max() == 3
    assert len(_brute_force(found, truth)) == 3


def test_a_chain_and_one_cut_by_the_border() -> None:
    truth = _discs([(0.0, 8 + 15.4 * i, 8) for i in range(7)], 120)
    assert _split(truth > 0).max() == 7


@pytest.mark.parametrize(
    ("size", "overlap", "floor"), [(256, 0.03, 0.99), (256, 0.1, 0.98), (512, 0.1, 0.99)]
)
def test_a_crowded_field(size: int, overlap: float, floor: float) -> None:
    truth = _field(size, 109, 0.12, overlap, seed=0)
    found = _split(truth > 0)
    assert label(truth > 0).max() < 90
    hits = len(_brute_force(found, truth))
    assert 2 * hits / (found.max() + 109) >= floor


def _convex_shapes(count: int, seed: int, size: int = 96) -> list[Mask]:
    """Ellipses, boxes, capsules and polygons at any angle, up to eight times as long as wide."""
    draw = np.random.default_rng(seed)
    shapes: list[Mask] = []
    while len(shapes) < count:
        angle, (cy, cx) = draw.uniform(0, np.pi), size / 2 + draw.uniform(-1, 1, 2)
        y, x = np.mgrid[:size, :size]
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        b = draw.uniform(1.5, 15)
        a = min(b * draw.uniform(1, 8), 44)
        corners = size / 2 + draw.uniform(-40, 40, (2, 3))
        triangle = np.zeros((size, size), dtype=bool)
        triangle[polygon(*corners, triangle.shape)] = True
        shape = [
            (u / a) ** 2 + (v / b) ** 2 < 1,
            (abs(u) < a) & (abs(v) < b),
            np.hypot(np.maximum(abs(u) - a + b, 0), v) < b,
            triangle,
        ][len(shapes) % 4]
        if shape.sum() >= 30 and label(shape).max() == 1:
            shapes.append(shape)
    return shapes


def test_a_convex_object_stays_one() -> None:
    for shape in _convex_shapes(200, seed=0):
        found = _split(shape)
        assert (found == shape).all()


@pytest.mark.parametrize("width", [8, 10, 12, 16, 20])
def test_a_bent_object_stays_one(width: int) -> None:
    """Three quarters of a ring: neither convex nor with a neck, and long."""
    y, x = np.mgrid[:100, :100] - 49.7
    arc = (abs(np.hypot(y, x) - 35) < width / 2) & (abs(np.arctan2(y, x)) < 0.75 * np.pi)
    assert (_split(arc) == arc).all()


def test_a_blob_with_a_rough_outline_or_pinholes_stays_one() -> None:
    """A network's outlines are not exact, and glare leaves holes."""
    draw = np.random.default_rng(1)
    for r in (5, 7, 10, 15, 20):
        disc = _discs([(32, 32, r)]) > 0
        ellipse = ndimage.zoom(disc.repeat(2, 1), 1, order=0)
        for shape in (disc, ellipse):
            edge = ndimage.binary_dilation(shape) & ~ndimage.binary_erosion(shape)
            rough = shape ^ (edge & (draw.random(shape.shape) < 0.15))
            rough = label(rough) == label(rough)[32, shape.shape[1] // 2]
            assert _split(rough, min_area=int(r**2)).max() == 1
            pierced = shape & (draw.random(shape.shape) > 0.02)
            found = _split(pierced, min_area=int(r**2))
            assert (found == pierced).all()


def test_an_island_in_a_hole_is_not_swallowed() -> None:
    mask = _discs([(32, 32, 25)]) > 0
    mask[31:34, 31:34] = False
    mask[32, 32] = True
    found = _split(mask, min_area=1)
    assert found[32, 32] not in (0, found[32, 20])
    mask[32, 32] = False
    assert (_split(mask, min_area=300) == mask).all()


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.65, 0.9])
def test_components_are_never_merged_and_never_lost(share: float) -> None:
    """On noise: each object lies in one component, and each large enough component is covered."""
    mask = np.random.default_rng(0).random((96, 128)) < share
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(components.ravel())
    for min_area in (0, 1, 8, 50):
        found = _split(mask, min_area=min_area)
        wanted = mask & (sizes[components] >= min_area)
        assert ((found > 0) == wanted).all()
        pairs = np.unique(np.stack([found, components])[:, found > 0], axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]  # one component per object
        assert (np.unique(pairs[0]) == np.arange(1, found.max() + 1)).all()
        assert min(np.bincount(found[found > 0])[1:], default=min_area) >= min_area


def test_min_area_and_min_distance() -> None:
    truth = _discs([(20, 20, 8), (20, 35, 8), (50, 50, 3)])
    areas = np.bincount(truth.ravel())
    assert _split(truth > 0, min_area=areas[3]).max() == 3
    assert _split(truth > 0, min_area=areas[3] + 1).max() == 2
    assert _split(truth > 0, min_distance=14).max() == 3
    assert _split(truth > 0, min_distance=16).max() == 2
    # No part is split off that would be too small to be an object.
    assert _split(truth == 1, min_area=areas[1]).max() == 1
    assert _split((truth == 1) | (truth == 2), min_area=areas[2] + 10).max() == 1


def test_nothing_and_everything() -> None:
    for shape in ((5, 7), (1, 1), (0, 4)):
        assert (_split(np.zeros(shape, dtype=bool), min_area=1) == 0).all()
        assert (_split(np.ones(shape, dtype=bool), min_area=1) == 1).all()
    assert _split(np.ones((2, 2), dtype=bool)).max() == 0


def test_the_same_each_time_and_whichever_way_the_image_lies() -> None:
    mask = _field(200, 80, 0.25, overlap=0.1, seed=3) > 0
    found = _split(mask)
    assert (found == _split(mask.copy())).all()
    for turned, back in ((mask.T, np.transpose), (mask[::-1], np.flipud)):
        again = back(_split(turned))
        assert again.max() == found.max()
        assert len(_brute_force(again, found)) == found.max()


# Matching


def _brute_force(predicted: Map, truth: Map, iou: float = 0.5) -> dict[tuple[int, int], float]:
    """IoU of each pair of labels above a limit."""
    found = {}
    for i in np.unique(predicted[predicted > 0]):
        a = predicted == i
        for j in np.unique(truth[a & (truth > 0)]):
            b = truth == j
            value = (a & b).sum() / (a | b).sum()
            if value > iou:
                found[int(i), int(j)] = value
    return found


@pytest.mark.parametrize("iou", [0.5, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_matches_against_every_pair(seed: int, iou: float) -> None:
    draw = np.random.default_rng(seed)
    truth = _field(64, 20, 0.4, overlap=0.2, seed=seed) * 37  # labels with gaps
    predicted = np.roll(truth // 37, 1, seed % 2)
    predicted[draw.random(truth.shape) < 0.04] = 99
    predicted[predicted == 3] = 0
    predicted[predicted == 4] = 5
    found = match_objects(predicted, truth.astype(np.int16), iou)
    wanted = _brute_force(predicted, truth, iou)
    assert 3 < len(wanted) < 20
    pairs = zip(map(tuple, found.pairs.tolist()), found.ious, strict=True)
    assert dict(pairs) == pytest.approx(wanted)
    assert found.true_positives == len(wanted)
    assert found.predicted == len(np.unique(predicted[predicted > 0]))
    assert found.true == len(np.unique(truth[truth > 0]))
    assert found.false_positives == found.predicted - len(wanted)
    assert found.false_negatives == found.true - len(wanted)


def test_half_an_object_is_no_match() -> None:
    """At exactly 0.5 two predictions could claim the same object."""
    truth, halves, more = (
        np.array([[7, 7, 7, 7]]),
        np.array([[1, 1, 2, 2]]),
        np.array([[1, 1, 1, 2]]),
    )
    found = match_objects(halves, truth)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (0, 2, 1)
    found = match_objects(more, truth)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (1, 1, 0)
    assert found.pairs.tolist() == [[1, 7]]
    assert found.ious.tolist() == [0.75]


def test_no_objects() -> None:
    none, one = np.zeros((3, 3), dtype=np.int32), np.eye(3, dtype=np.int32)
    for predicted, truth, wanted in (
        (none, none, (0, 0, 0)),
        (one, none, (0, 1, 0)),
        (none, one, (0, 0, 1)),
    ):
        found = match_objects(predicted, truth)
        assert (found.true_positives, found.false_positives, found.false_negatives) == wanted
        assert found.pairs.shape == (0, 2)


def test_labels_may_be_large() -> None:
    large = np.array([[2_000_000_000, 0, 5]], dtype=np.int32)
    assert match_objects(large, large).pairs.tolist() == [[5, 5], [2_000_000_000] * 2]


def test_what_cannot_be_matched() -> None:
    one = np.ones((2, 2), dtype=int)
    with pytest.raises(ValueError, match="unique"):
        match_objects(one, one, iou=0.4)
    with pytest.raises(ValueError, match="shapes"):
        match_objects(one, one[:1])
