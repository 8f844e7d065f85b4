"""Objects of a binary mask: touching ones told apart, and matched with the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.segmentation import watershed

NECK = 0.85
"""Two parts are one object if the neck between them is at least this wide, as a share of the
width of the narrower part."""

SMOOTHING = 0.7
"""Standard deviation in pixels by which distances are smoothed."""

CONVEX = 0.02
"""An object is convex if its convex hull has at most this share of pixels more than it."""

PINHOLE = 0.04
"""Holes of this share of the least area are filled. Larger ones may be the gaps between three
touching beads, which are 5 % of a bead."""

_EIGHT = np.ones((3, 3), dtype=bool)
_ALL, _LOW, _HIGH = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (
    ((_ALL, _LOW), (_ALL, _HIGH)),
    ((_LOW, _ALL), (_HIGH, _ALL)),
    ((_LOW, _LOW), (_HIGH, _HIGH)),
    ((_LOW, _HIGH), (_HIGH, _LOW)),
)
"""Every pair of the 8-neighbourhood once, as two views of an image."""

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


def split_objects(mask: Mask, *, min_area: int, min_distance: int) -> Labels:
    """Label the objects of a mask; round ones that touch are told apart.

    Watershed on the distance to the ground, from all of its local maxima; then basins are joined
    again unless the neck between them is clearly narrower than both (`NECK`), their highest points
    are ``min_distance`` apart, and each has ``min_area`` pixels. The first is the prominence of a
    maximum in relation to its height: h-maxima of the logarithm. Components (8-connected) are never
    joined, and convex ones never split. Made for round objects: a thin curved one, like a fibre,
    may be cut.

    Args:
        mask: bool (H, W).
        min_area: components of fewer pixels are dropped, and no smaller part is split off.
        min_distance: least distance in pixels of the centres of touching objects.

    Returns:
        int32 (H, W): 0 is ground, objects are numbered 1..n without gaps.
    """
    components = _components(np.asarray(mask, dtype=bool), min_area)
    inside = components > 0
    if not inside.any() or inside.all():
        return components
    solid = inside | _pinholes(components, min_area)
    distance = ndimage.distance_transform_edt(solid).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, SMOOTHING, mode="nearest")
    distance[~solid] = 0
    peaks = solid & (distance == ndimage.maximum_filter(distance, 3))
    seeds, count = ndimage.label(peaks, _EIGHT)
    basins = watershed(-distance, seeds, connectivity=2, mask=solid)
    areas = np.bincount(basins[inside], minlength=count + 1)
    owners = _join(_Basins(basins, distance, seeds, areas), min_area, min_distance)
    parts = owners[basins]
    parts[_convex(components, parts)] = 0
    return _pairs(components, parts)


def _components(mask: Mask, min_area: int) -> Labels:
    """Connected components of at least ``min_area`` pixels, numbered without gaps."""
    components, count = ndimage.label(mask, _EIGHT)
    kept = np.bincount(components.ravel(), minlength=count + 1) >= min_area
    kept[0] = False
    return np.where(kept, kept.cumsum(), 0).astype(np.int32)[components]


def _pinholes(components: Labels, min_area: int) -> Mask:
    """Holes too small to be gaps between objects; left open, they would shatter what is around."""
    limit = PINHOLE * min_area
    if limit < 1:
        return np.zeros(components.shape, dtype=bool)
    holes, count = ndimage.label(components == 0)
    small = np.bincount(holes.ravel(), minlength=count + 1) <= limit
    small[0] = False
    return small[holes]


class _Basins:
    """Basins 1..n of the distance transform: ``peak`` heights, where those are, and ``area``."""

    def __init__(
        self,
        labels: Labels,
        distance: NDArray[np.float32],
        seeds: Labels,
        area: NDArray[np.int64],
    ) -> None:
        self.count = count = len(area) - 1
        self.area = area
        self.labels = labels
        self.distance = distance
        flat = seeds.ravel()
        at = np.flatnonzero(flat)
        rows, columns = np.divmod(at, labels.shape[1])
        pixels = np.bincount(flat[at], minlength=count + 1).clip(min=1)
        self.row = np.bincount(flat[at], rows, count + 1) / pixels  # a seed may be a plateau
        self.column = np.bincount(flat[at], columns, count + 1) / pixels
        self.peak = np.zeros(count + 1, dtype=np.float32)
        self.peak[flat[at]] = distance.ravel()[at]

    def necks(self) -> list[tuple[int, int, float]]:
        """Pairs of neighbouring basins and the height of the pass between them, highest first."""
        codes, heights = [], []
        for here, there in _NEIGHBOURS:
            a, b = self.labels[here], self.labels[there]
            at = (a != b) & (a > 0) & (b > 0)
            first, second = a[at].astype(np.int64), b[at].astype(np.int64)
            codes.append(np.minimum(first, second) * (self.count + 1) + np.maximum(first, second))
            heights.append(np.minimum(self.distance[here][at], self.distance[there][at]))
        code, height = np.concatenate(codes), np.concatenate(heights)
        order = np.lexsort((code, -height))
        _, first = np.unique(code[order], return_index=True)
        order = order[np.sort(first)]
        a, b = np.divmod(code[order], self.count + 1)
        return list(zip(a.tolist(), b.tolist(), height[order].tolist(), strict=True))


def _join(basins: _Basins, min_area: int, min_distance: int) -> NDArray[np.int64]:
    """The basin that stands for each one (n + 1,), itself where it is an object of its own.

    Passes are visited from the highest down, so that a basin has already grown to what is above
    the pass at which it is judged.
    """
    peak, area = basins.peak.tolist(), basins.area.tolist()
    row, column = basins.row.tolist(), basins.column.tolist()
    parent = list(range(basins.count + 1))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b, height in basins.necks():
        high, low = find(a), find(b)
        if high == low:
            continue
        if (peak[high], -high) < (peak[low], -low):
            high, low = low, high
        distance = ((row[high] - row[low]) ** 2 + (column[high] - column[low]) ** 2) ** 0.5
        if (
            height >= NECK * peak[low]
            or distance < min_distance
            or min(area[high], area[low]) < min_area
        ):
            parent[low] = high
            area[high] += area[low]
    return np.array([find(i) for i in range(len(parent))])


def _convex(components: Labels, parts: NDArray[np.int64]) -> Mask:
    """The pixels (H, W) of components that are in several parts though they are convex."""
    inside = components > 0
    lowest = np.full(int(components.max()) + 1, np.iinfo(np.int64).max)
    highest = np.zeros_like(lowest)
    np.minimum.at(lowest, components[inside], parts[inside])
    np.maximum.at(highest, components[inside], parts[inside])
    whole = np.zeros(len(lowest), dtype=bool)
    boxes = ndimage.find_objects(components)
    for i in np.flatnonzero(lowest < highest):
        whole[i] = _is_convex(components[boxes[i - 1]] == i)
    return whole[components]


def _is_convex(shape: Mask) -> bool:
    """Whether hardly any pixel of the convex hull is missing, by Pick's theorem."""
    rows = np.flatnonzero(shape.any(1))
    left = shape[rows].argmax(1)
    right = shape.shape[1] - 1 - shape[rows, ::-1].argmax(1)
    points = np.stack([np.tile(rows, 2), np.concatenate([left, right])], 1)
    try:
        hull = ConvexHull(points)
    except QhullError:  # all on one line
        return True
    corners = points[hull.vertices]
    edges = np.abs(np.roll(corners, -1, axis=0) - corners)
    pixels = hull.volume + np.gcd(edges[:, 0], edges[:, 1]).sum() / 2 + 1
    area = int(shape.sum())
    return bool(pixels - area <= CONVEX * area)


def _pairs(components: Labels, parts: NDArray[np.int64]) -> Labels:
    """Number the parts of all components; a part never reaches over into another component."""
    inside = components > 0
    pairs = components[inside].astype(np.int64) * (int(parts.max()) + 1) + parts[inside]
    labels = np.zeros_like(components)
    labels[inside] = np.unique(pairs, return_inverse=True)[1] + 1
    return labels


@dataclass(frozen=True)
class Matches:
    """Which predicted objects are which true ones.

    Attributes:
        true_positives: number of pairs.
        false_positives: predicted objects in no pair.
        false_negatives: true objects in no pair.
        pairs: int64 (true_positives, 2), predicted and true label, by predicted label.
        ious: float64 (true_positives,), of each pair.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    pairs: NDArray[np.int64]
    ious: NDArray[np.float64]

    @property
    def predicted(self) -> int:
        """The number of predicted objects."""
        return self.true_positives + self.false_positives

    @property
    def true(self) -> int:
        """The number of true objects."""
        return self.true_positives + self.false_negatives


def match_objects(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], iou: float = 0.5
) -> Matches:
    """Pair the objects of two label maps whose IoU is greater than ``iou``.

    Above one half an object overlaps at most one other so much, so the pairs are unique and no
    assignment need be solved (Kirillov et al. 2019, Panoptic Segmentation).

    Args:
        predicted: int (H, W), 0 = none; labels need not be consecutive.
        truth: likewise.
        iou: at least 0.5; exactly this value does not match.

    Raises:
        ValueError: ``iou`` below 0.5, or maps of different shapes.
    """
    if iou < 0.5:
        raise ValueError(f"iou={iou}: matches are unique only from 0.5 on")
    if predicted.shape != truth.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {truth.shape}")
    found, found_at, found_area = _objects(predicted)
    wanted, wanted_at, wanted_area = _objects(truth)
    both = (predicted > 0) & (truth > 0)
    codes = found_at[both[predicted > 0]] * max(len(wanted), 1) + wanted_at[both[truth > 0]]
    codes, common = np.unique(codes, return_counts=True)
    i, j = np.divmod(codes, max(len(wanted), 1))
    union = found_area[i] + wanted_area[j] - common
    hit = common > iou * union
    pairs = np.stack([found[i[hit]], wanted[j[hit]]], 1).astype(np.int64)
    count = len(pairs)
    return Matches(
        true_positives=count,
        false_positives=len(found) - count,
        false_negatives=len(wanted) - count,
        pairs=pairs,
        ious=common[hit] / union[hit],
    )


def _objects(labels: NDArray[np.integer]) -> tuple[NDArray, NDArray, NDArray]:
    """The labels that occur, the position among them of each labelled pixel, and the areas."""
    return np.unique(labels[labels > 0], return_inverse=True, return_counts=True)
