"""Whether the boxes of a COCO file are COCO's: x, y, width and height in pixels.

Scripts write corners there, or fractions of the sides, and most of such boxes lie inside their
images all the same. What else a file says of an object tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from phasewise.errors import UserError

LOOKED_AT = 1000
"""So many annotations tell how all of a file are meant."""

MOST = 0.9
"""Of these so many must say the same."""

CLOSE = 2.0
"""Edges that differ by at most so many pixels are the same, rounded by other programs."""

APART = 0.1
"""Boxes that have less than this share of their union in common are of different places."""

Boxes = npt.NDArray[np.float64]


def check_boxes(annotations: Sequence[Mapping[str, Any]], file: str) -> str:
    """See whether boxes can be what they should be.

    Args:
        annotations: of one file.
        file: how messages call it.

    Returns:
        What is odd; empty if nothing is.

    Raises:
        UserError: they are corners, or fractions.
    """
    found = [it for it in annotations[:LOOKED_AT] if _numbers(it.get("bbox"), 4)]
    boxes = np.array([it["bbox"] for it in found], float).reshape(-1, 4)
    if len(boxes) and boxes.max() <= 1 and (boxes % 1 != 0).any():
        raise UserError(f"{file}: no number of a bbox is above 1: fractions; COCO's are in pixels")
    pairs = [(box, _edges(it)) for box, it in zip(boxes, found, strict=True)]
    outlined = [(box, around) for box, around in pairs if around is not None]
    if not outlined:
        areas = [it.get("area") if _numbers([it.get("area")], 1) else 0 for it in found]
        if _area_of_corners(boxes, np.array(areas, float)):
            raise UserError(_corners(file, "area"))
        return ""
    given = np.array([box for box, _ in outlined], float)
    edges = np.array([around for _, around in outlined], float)
    sized = np.concatenate([given[:, :2], given[:, :2] + given[:, 2:]], 1)
    if _close(given, edges) >= MOST > _close(sized, edges):
        raise UserError(_corners(file, "segmentation"))
    apart = int((_overlap(sized, edges) < APART).sum())
    if 2 * apart <= len(edges):
        return ""
    return f"{apart} of {len(edges)} objects looked at have their outline outside their bbox"


def _corners(file: str, teller: str) -> str:
    return (
        f"{file}: bbox holds x1, y1, x2, y2, as {teller} shows; COCO's are x, y, width, height: "
        "write them so"
    )


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(it, int | float) and np.isfinite(it) for it in values)
    )


def _edges(entry: Mapping[str, Any]) -> tuple[float, ...] | None:
    """x1, y1, x2, y2 of an object's polygons; None without such."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return None
    if not all(isinstance(it, list) and len(it) >= 6 and _numbers(it, len(it)) for it in polygons):
        return None
    xs = [x for it in polygons for x in it[::2]]
    ys = [y for it in polygons for y in it[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _close(boxes: Boxes, edges: Boxes) -> float:
    return float((np.abs(boxes - edges) <= CLOSE).all(1).mean())


def _area_of_corners(boxes: Boxes, areas: npt.NDArray[np.float64]) -> bool:
    """Whether areas are those of boxes whose numbers are corners."""
    if not len(boxes) or not areas.all():
        return False
    sized = boxes[:, 2] * boxes[:, 3]
    spans = boxes[:, 2:] - boxes[:, :2]
    cornered = np.where((spans > 0).all(1), spans.prod(1), 0)
    return bool(np.isclose(cornered, areas, 0.01).mean() >= MOST > np.isclose(sized, areas).mean())


def _overlap(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union, pair by pair."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = sides.clip(min=0).prod(1)
    areas = [(it[:, 2:] - it[:, :2]).prod(1) for it in (one, other)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)
