"""What the drawn data sets have in common: random streams, antialiased shapes, noise, boxes.

A scene is described in units of the image side (the image is the square ``[0, 1] x [0, 1]``, y
pointing down), so it is the same at every size. Canvases are float32 (3, S, S) RGB, about 0 to 1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from phasewise.data.splits import SPLITS

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MIN_SIZE = 16
"""Smallest side of a drawn image, in pixels."""


def image_stream(split: str, index: int, *, size: int, seed: int) -> np.random.Generator:
    """The random numbers of one image; they depend on (seed, split, index) alone.

    Args:
        split: one of `SPLITS`.
        index: which image of the split, at least 0.
        size: side in pixels, at least `MIN_SIZE`; checked here, of no effect on the numbers.
        seed: which pictures are drawn, at least 0.

    Raises:
        ValueError: an unknown split, or a number out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if index < 0 or size < MIN_SIZE or seed < 0:
        numbers = f"{index=}, {size=}, {seed=}"
        raise ValueError(f"need index >= 0, size >= {MIN_SIZE}, seed >= 0, got {numbers}")
    return np.random.default_rng((seed, SPLITS.index(split), index))


def floats(values: object) -> Floats:
    """As float32."""
    return np.asarray(values, np.float32)


def pixel_centres(size: int) -> Floats:
    """Centres of the pixels of a row or column, (size,), in (0, 1)."""
    return floats((np.arange(size) + 0.5) / size)


def interpolation(positions: Floats, nodes: int, *, smooth: bool = True) -> Floats:
    """Weights (N, nodes) of equally spaced nodes on [0, 1] at positions (N,); each row sums to 1.

    Args:
        positions: in [0, 1].
        nodes: how many, at least 2.
        smooth: with a slope of 0 at every node (smoothstep), otherwise linear.
    """
    away = np.abs(positions[:, None] * (nodes - 1) - np.arange(nodes, dtype=np.float32))
    near = np.clip(1 - away, 0, 1)
    return near * near * (3 - 2 * near) if smooth else near


# --- shapes: signed distances in units of the image side, negative inside -------------------------


def cone_distance(cones: Floats, x: Floats, y: Floats, blend: float = 0.0) -> Floats:
    """Signed distance (near the outline) of every point (h, w) to the nearest of some round cones.

    Args:
        cones: (N, 6), N at least 1: x and y of both ends, and the radius at each. Equal radii make
            a line with round ends, equal ends a disk.
        x: (1, w).
        y: (h, 1).
        blend: how far off corners between the cones are rounded.
    """
    total: Floats | None = None
    for ax, ay, bx, by, ra, rb in cones:
        dx, dy, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, np.float32(1e-9)), 0, 1)
        one = np.hypot(px - along * dx, py - along * dy) - (ra + along * (rb - ra))
        if total is None:
            total = one
            continue
        near = np.maximum(blend - np.abs(total - one), 0) if blend else np.float32(0)
        total = np.minimum(total, one) - near * near / np.float32(4 * blend or 1)
    assert total is not None
    return total


def fill(canvas: Floats, distance: Floats, colour: Floats, size: int) -> None:
    """Paint where a signed distance is negative, with an edge one pixel soft.

    Args:
        canvas: (3, h, w), the image or a part of it; changed in place.
        distance: (h, w), in units of the image side.
        colour: (3, 1, 1) or (3, h, w).
        size: side of the image, in pixels.
    """
    canvas += np.clip(0.5 - distance * size, 0, 1) * (colour - canvas)


def fill_polygon(canvas: Floats, corners: Floats, colour: Floats, alpha: float = 1.0) -> None:
    """Paint a convex polygon with edges one pixel soft.

    Args:
        canvas: (3, S, S), changed in place.
        corners: (N, 2) x, y in units of the image side, in either sense; may lie outside of it.
        colour: (3,).
        alpha: opacity in [0, 1].
    """
    size = canvas.shape[-1]
    points = corners * np.float32(size)
    left, top = np.maximum(points.min(0) - 1, 0).astype(int).tolist()
    right, bottom = np.minimum(points.max(0) + 2, size).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    x, y = points.T
    along_x, along_y = x[_after(len(x))] - x, y[_after(len(y))] - y
    turn = 1 if (x * along_y - y * along_x).sum() > 0 else -1
    length = turn * np.maximum(np.hypot(along_x, along_y), 1e-6)
    normal_x, normal_y = along_y / length, -along_x / length
    offset = 0.5 - normal_x * x - normal_y * y
    columns = normal_x[:, None] * _centres(left, right) + offset[:, None]
    rows = normal_y[:, None] * _centres(top, bottom)
    outside = rows[:, :, None] + columns[:, None, :]  # (N, height, width), 0.5 on the edge
    # The sum is right also for what is thinner than a pixel, but not for many short edges.
    cover = 1 - (outside.clip(0, 1).sum(0) if len(points) <= 4 else outside.max(0))
    cover = cover.clip(0, 1) * np.float32(alpha)
    part = canvas[:, top:bottom, left:right]
    part += cover * (colour[:, None, None] - part)


def _centres(low: int, high: int) -> Floats:
    return np.arange(low, high, dtype=np.float32) + 0.5


@cache
def _after(count: int) -> NDArray[np.int64]:
    """The index of each corner's successor."""
    return (np.arange(count) + 1) % count


# --- the finished image ---------------------------------------------------------------------------


def noisy(values: Floats, deviation: Floats | float, rng: np.random.Generator) -> Floats:
    """Values with Gaussian noise of a standard deviation (a number, or one for each value)."""
    return values + rng.standard_normal(values.shape, np.float32) * floats(deviation)


def to_uint8(values: Floats) -> NDArray[np.uint8]:
    """Values of 0 to 255, rounded; what is beyond is cut off."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def tight_box(pixels: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 in pixels (edges, so x2 - x1 is the width), or None where no pixel is set."""
    columns, rows = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
    if not columns.size:
        return None
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
