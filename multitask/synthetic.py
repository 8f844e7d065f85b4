"""The embedded data set ``shapes``: drawn objects on textured ground, with masks and boxes.

A scene is described in unit coordinates (the image is the square ``[0, 1] x [0, 1]``, y pointing
down) and then painted at any size. Shapes are distance functions, so edges in the image are smooth
and edges in the mask are hard. Colour hints at the class, only the outline tells it.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phasewise.data.painting import (
    Floats,
    cone_distance,
    fill,
    floats,
    image_stream,
    interpolation,
    noisy,
    pixel_centres,
    tight_box,
    to_uint8,
)

CLASS_NAMES: tuple[str, ...] = ("background", "circle", "square", "triangle", "star", "ring")
"""Class ``i`` of masks and labels; 0 is the ground."""

MAX_OBJECTS = 5
MIN_VISIBLE = 0.3
"""An object less of which can be seen is left out of the scene."""

_CIRCLE, _SQUARE, _TRIANGLE, _STAR, _RING = range(1, 6)
_CORNERS = {_SQUARE: 4, _TRIANGLE: 3, _STAR: 5}
_STAR_INNER = 0.45  # inner over outer radius
_RING_HALF_WIDTH = 0.25  # of the radius
# Outer radius in units of the object's scale: classes cover similar areas, so size is no clue.
_RADIUS = {_CIRCLE: 0.5, _SQUARE: 0.62, _TRIANGLE: 0.72, _STAR: 0.72, _RING: 0.6}
_HUES = {_CIRCLE: 0.02, _SQUARE: 0.6, _TRIANGLE: 0.33, _STAR: 0.14, _RING: 0.8}
_OWN_HUE = 0.6  # share of objects that wear their class's hue
_OBJECTS_SHARE = (0.08, 0.16, 0.26, 0.26, 0.24)  # of scenes with 1, 2, ... 5 objects
_SCALE = (0.15, 0.47)
_CONTRAST = 0.4  # least RGB distance between an object and the mean ground
_PLANNING_GRID = 64  # visibility is judged on this grid, so a scene is the same at every size
_TRIES = 12


@dataclass(frozen=True)
class _Texture:
    """Two colours, mixed by a pattern."""

    kind: str  # plain, gradient, stripes, checks, noise
    colours: Floats  # (2, 3) in [0, 1]
    angle: float
    frequency: float  # periods per image side
    phase: float
    lattice: Floats  # (n, n) random values in [0, 1], for noise


@dataclass(frozen=True)
class _Object:
    label: int
    centre: tuple[float, float]
    scale: float
    aspect: float
    angle: float
    texture: _Texture
    shading: float


@dataclass
class _Scene:
    ground: _Texture
    ripple: _Texture
    lines: list[tuple[Floats, float, Floats]]  # end points (2, 2), half width, colour
    specks: list[tuple[Floats, float, Floats]]  # centre, radius, colour
    noise: float
    objects: list[_Object] = field(default_factory=list)


def draw_image(split: str, index: int, *, size: int, seed: int) -> dict[str, np.ndarray]:
    """Draw one image.

    It depends on (seed, split, index) alone, and shows the same scene at every size.

    Args:
        split: ``train``, ``val`` or ``test``.
        index: which image of the split, at least 0.
        size: side S in pixels, at least 16.
        seed: which pictures are drawn, at least 0.

    Returns:
        ``image`` uint8 (3, S, S) RGB; ``mask`` uint8 (S, S), class per pixel; ``boxes`` float32
        (M, 4), x1, y1, x2, y2 in pixels, tight around the visible part; ``labels`` int64 (M,), -1 =
        padding; ``difficult`` bool (M,); ``has_mask`` and ``has_boxes`` bool. M is `MAX_OBJECTS`.

    Raises:
        ValueError: an unknown split, or a number out of range.
    """
    rng = image_stream(split, index, size=size, seed=seed)
    image, instances, classes = _paint(_draw_scene(rng), size, rng)
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    labels = np.full(MAX_OBJECTS, -1, np.int64)
    found = [(label, tight_box(instances == k)) for k, label in enumerate(classes, 1)]
    visible = [(label, box) for label, box in found if box is not None]
    for slot, (label, box) in enumerate(visible):
        labels[slot], boxes[slot] = label, box
    return {
        "image": image,
        "mask": np.array([0, *classes], np.uint8)[instances],
        "boxes": boxes,
        "labels": labels,
        "difficult": np.zeros(MAX_OBJECTS, bool),
        "has_mask": np.array(True),
        "has_boxes": np.array(True),
    }


# --- what is in a scene -----------------------------------------------------------------------


def _draw_scene(rng: np.random.Generator) -> _Scene:
    ground = _draw_texture(rng, _draw_colour(rng), kinds=("gradient", "stripes", "checks", "noise"))
    scene = _Scene(
        ground=ground,
        ripple=_draw_texture(rng, _draw_colour(rng), kinds=("noise",)),
        lines=[
            (floats(rng.uniform(0, 1, (2, 2))), rng.uniform(0.004, 0.012), _draw_colour(rng))
            for _ in range(rng.integers(0, 5))
        ],
        specks=[
            (floats(rng.uniform(0, 1, 2)), rng.uniform(0.006, 0.022), _draw_colour(rng))
            for _ in range(rng.integers(0, 14))
        ],
        noise=rng.uniform(1, 6),
    )
    grid = _grid(_PLANNING_GRID)
    owner = np.zeros((_PLANNING_GRID, _PLANNING_GRID), np.int64)
    whole: list[float] = []
    for _ in range(1 + rng.choice(MAX_OBJECTS, p=_OBJECTS_SHARE)):
        for _ in range(_TRIES):
            candidate = _draw_object(rng, ground.colours.mean(0))
            covered = _distance(candidate, *grid) < 0
            area = _area(candidate) * _PLANNING_GRID**2
            trial = np.where(covered, len(whole) + 1, owner)
            shown = np.bincount(trial.ravel(), minlength=len(whole) + 2)[1:]
            if (shown >= (MIN_VISIBLE + 0.05) * np.array([*whole, area])).all():
                owner = trial
                whole.append(area)
                scene.objects.append(candidate)
                break
    return scene


def _draw_object(rng: np.random.Generator, ground: Floats) -> _Object:
    label = int(rng.integers(1, len(CLASS_NAMES)))
    hue = _HUES[label] + rng.normal(0, 0.03) if rng.random() < _OWN_HUE else rng.random()
    colour = _draw_colour(rng, hue)
    while np.linalg.norm(colour - ground) < _CONTRAST:
        colour = _draw_colour(rng, hue)
    kinds = ("plain", "plain", "gradient", "stripes", "noise")
    low, high = _SCALE
    return _Object(
        label=label,
        centre=(rng.uniform(0.08, 0.92), rng.uniform(0.08, 0.92)),
        scale=rng.uniform(low, high),
        aspect=rng.uniform(0.85, 1 / 0.85),
        angle=rng.uniform(0, 2 * np.pi),
        texture=_draw_texture(rng, colour, kinds, spread=0.12),
        shading=rng.uniform(0, 0.35),
    )


def _draw_texture(
    rng: np.random.Generator, colour: Floats, kinds: tuple[str, ...], spread: float = 0.2
) -> _Texture:
    """A pattern between ``colour`` and a neighbour of it."""
    nodes = rng.integers(3, 12)
    return _Texture(
        kind=str(rng.choice(kinds)),
        colours=np.clip(np.stack([colour, colour + rng.normal(0, spread, 3)]), 0, 1).astype("f4"),
        angle=rng.uniform(0, 2 * np.pi),
        frequency=rng.uniform(2, 12),
        phase=rng.uniform(0, 2 * np.pi),
        lattice=floats(rng.random((nodes, nodes))),
    )


def _draw_colour(rng: np.random.Generator, hue: float | None = None) -> Floats:
    """RGB in [0, 1]; without a hue also greys."""
    if hue is None:
        rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.15, 0.9))
    else:
        rgb = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.35, 1), rng.uniform(0.35, 1))
    return floats(rgb)


# --- geometry: distances in units of the image side, negative inside ---------------------------


def _grid(size: int) -> tuple[Floats, Floats]:
    """x as (1, size) and y as (size, 1)."""
    line = pixel_centres(size)
    return line[None, :], line[:, None]


def _inner_radius(label: int) -> float:
    """Radius of the corners that point inwards (of a polygon: of the middles of its edges)."""
    return _STAR_INNER if label == _STAR else float(np.cos(np.pi / _CORNERS[label]))


def _area(item: _Object) -> float:
    radius = _RADIUS[item.label] * item.scale
    if item.label == _CIRCLE:
        return np.pi * radius**2
    if item.label == _RING:
        return np.pi * radius**2 * (1 - (1 - 2 * _RING_HALF_WIDTH) ** 2)
    corners = _CORNERS[item.label]
    return corners * radius**2 * _inner_radius(item.label) * np.sin(np.pi / corners)


def _distance(item: _Object, x: Floats, y: Floats) -> Floats:
    """Signed distance (near the outline) of every point to the object, (S, S)."""
    radius = np.float32(_RADIUS[item.label] * item.scale)
    cos, sin = np.float32(np.cos(item.angle)), np.float32(np.sin(item.angle))
    dx, dy = x - np.float32(item.centre[0]), y - np.float32(item.centre[1])
    stretch = np.float32(np.sqrt(item.aspect))
    along, across = (dx * cos + dy * sin) * stretch, (dy * cos - dx * sin) / stretch
    from_centre = np.hypot(along, across)
    if item.label == _CIRCLE:
        return from_centre - radius
    if item.label == _RING:
        half = np.float32(_RING_HALF_WIDTH) * radius
        return np.abs(from_centre - (radius - half)) - half
    # Fold the plane into half a sector: one edge, from an outer to an inner corner, is left.
    sector = np.float32(np.pi / _CORNERS[item.label])
    turn = np.abs((np.arctan2(across, along) + sector) % (2 * sector) - sector)
    inner = np.float32(_inner_radius(item.label)) * radius
    edge_x, edge_y = inner * np.cos(sector) - radius, inner * np.sin(sector)
    to_x, to_y = from_centre * np.cos(turn) - radius, from_centre * np.sin(turn)
    return (to_y * -edge_x + to_x * edge_y) / np.hypot(edge_x, edge_y)


# --- painting ---------------------------------------------------------------------------------


def _paint(
    scene: _Scene, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    """Image (3, S, S), instance map (S, S) with 0 = ground, and the class of each instance."""
    x, y = _grid(size)
    canvas = 0.65 * _pattern(scene.ground, x, y) + 0.35 * _pattern(scene.ripple, x, y)
    for ends, half_width, colour in scene.lines:
        away = _segment_distance(ends, x, y) - half_width
        fill(canvas, away, colour[:, None, None], size)
    for centre, radius, colour in scene.specks:
        disk = floats([[*centre, *centre, radius, radius]])
        fill(canvas, cone_distance(disk, x, y), colour[:, None, None], size)
    instances = np.zeros((size, size), np.uint8)
    for number, item in enumerate(scene.objects, 1):
        distance = _distance(item, x, y)
        light = (x - item.centre[0]) * np.cos(item.angle) + (y - item.centre[1]) * np.sin(
            item.angle
        )
        shade = 1 + np.float32(item.shading) * light / np.float32(item.scale)
        fill(canvas, distance, _pattern(item.texture, x, y) * shade, size)
        instances[distance < 0] = number
    image = to_uint8(noisy(canvas * 255, scene.noise, rng))
    return image, instances, [item.label for item in scene.objects]


def _segment_distance(ends: Floats, x: Floats, y: Floats) -> Floats:
    (x1, y1), (x2, y2) = ends
    dx, dy = x2 - x1, y2 - y1
    along = np.clip(((x - x1) * dx + (y - y1) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.hypot(x - x1 - along * dx, y - y1 - along * dy)


def _pattern(texture: _Texture, x: Floats, y: Floats) -> Floats:
    """Colours of a texture at every point, (3, S, S)."""
    cos, sin = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    pace, phase = np.float32(2 * np.pi * texture.frequency), np.float32(texture.phase)
    if texture.kind == "stripes":
        mix = 0.5 + 0.5 * np.sin(pace * along + phase)
    elif texture.kind == "checks":
        mix = 0.5 + 0.5 * np.sin(pace * along + phase) * np.sin(pace * across + phase)
    elif texture.kind == "gradient":
        mix = np.clip(0.5 + 0.7 * (along - (cos + sin) / 2), 0, 1)
    elif texture.kind == "noise":
        nodes = len(texture.lattice)
        mix = interpolation(y.ravel(), nodes) @ texture.lattice @ interpolation(x.ravel(), nodes).T
    else:
        mix = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    first, second = texture.colours[:, :, None, None]
    return first + mix * (second - first)
