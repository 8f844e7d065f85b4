"""The embedded data set ``vehicles``: the same vehicles rendered by several cameras.

A vehicle (`reid.vehicles`) stands on a road that a camera looks at from its own side, in its own
light. Everything is described in metres or in units of the image side and painted at any size, so
that the scene does not depend on the size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasewise.data.painting import MIN_SIZE, Floats, fill_polygon, floats, noisy, to_uint8
from reid.paint import Patch, vehicle_patches
from reid.vehicles import draw_vehicle

# Degrees: from where a camera sees the vehicle (0 = its front, 90 = its left side), and from how
# high. Neighbours share a side, so that most details are seen by several cameras.
_VIEWS = ((35, 14), (148, 20), (-40, 24), (88, 9), (-150, 12), (8, 27))
_VERGES = np.array([[0.3, 0.42, 0.2], [0.55, 0.53, 0.5], [0.5, 0.42, 0.32], [0.36, 0.36, 0.38]])
_PANE = np.array([0.1, 0.12, 0.14], np.float32)
_VIEW_JITTER = (9.0, 3.0)  # standard deviations of the angles, degrees


@dataclass(frozen=True)
class _Camera:
    """What stays the same in all images of a camera."""

    azimuth: float  # radians, as the elevation
    elevation: float
    distance: float  # in lengths of the vehicle
    roll: float
    stretch: float  # 0 keeps the aspect, 1 fills the square
    sun: Floats
    gain: Floats
    contrast: float
    haze: float
    blur: float  # standard deviation, of the image side
    noise: float
    road: Floats
    verge: Floats
    walls: Floats  # (5, 3)
    wall_edges: Floats  # where one backdrop ends and the next begins, in units of the image side
    lanes: tuple[float, float]  # y of the lines, metres
    marking: Floats


@dataclass(frozen=True)
class _Shot:
    """What changes from one image to the next of the same camera."""

    azimuth: float
    elevation: float
    roll: float
    fill: Floats
    shift: Floats
    gain: float
    phase: float
    occluders: list[tuple[Floats, Floats]]  # corners in the image, colour
    shade: tuple[Floats, float] | None
    ripple: Floats


def draw_image(identity: int, camera: int, shot: int, *, size: int, seed: int) -> NDArray[np.uint8]:
    """Draw one image.

    It depends on (seed, identity, camera, shot) alone and shows the same scene at every size.

    Args:
        identity: which vehicle, at least 0.
        camera: which camera, at least 0; the first six differ most.
        shot: which image of this vehicle by this camera, at least 0.
        size: side S in pixels, at least 16.
        seed: which vehicles and cameras there are, at least 0.

    Returns:
        uint8 (3, S, S), RGB.

    Raises:
        ValueError: a number out of range.
    """
    if min(identity, camera, shot, seed) < 0 or size < MIN_SIZE:
        numbers = f"{identity=}, {camera=}, {shot=}, {size=}, {seed=}"
        raise ValueError(f"need numbers of at least 0 and size >= {MIN_SIZE}, got {numbers}")
    rng = np.random.default_rng((seed, 4, identity, camera, shot))
    place, moment = _draw_camera(camera, seed), _draw_shot(rng)
    vehicle = draw_vehicle(identity, seed)
    view = _View(place, moment, vehicle.length)
    patches = vehicle_patches(vehicle, view.eye, place.sun)
    view.frame(np.concatenate([patch.points for patch in patches]), moment, place.stretch)
    canvas = _backdrop(place, moment, view, size)
    scene = [*_ground(place, moment, patches), *patches]
    ends = np.cumsum([len(patch.points) for patch in scene])[:-1]
    placed = np.split(view.project(np.concatenate([patch.points for patch in scene])), ends)
    for patch, corners in zip(scene, placed, strict=True):
        fill_polygon(canvas, corners, patch.colour, patch.alpha)
    for corners, colour in moment.occluders:
        fill_polygon(canvas, corners, colour)
    return _expose(canvas, place, moment, rng)


# --- cameras and shots ----------------------------------------------------------------------------


def _draw_camera(camera: int, seed: int) -> _Camera:
    rng = np.random.default_rng((seed, 3, camera))
    turn, view = divmod(camera, len(_VIEWS))
    azimuth, elevation = _VIEWS[view]
    light = np.deg2rad([rng.uniform(0, 360), rng.uniform(25, 65)])
    tint = rng.uniform(-0.16, 0.16)
    return _Camera(
        azimuth=np.deg2rad(azimuth + 25 * turn + rng.uniform(-5, 5)),
        elevation=np.deg2rad(elevation + rng.uniform(-3, 3)),
        distance=rng.uniform(2, 5),
        roll=np.deg2rad(rng.uniform(-4, 4)),
        stretch=rng.uniform(0.25, 0.75),
        sun=_sphere(*light),
        gain=floats(rng.uniform(0.65, 1.2) * np.array([1 + tint, 1, 1 - tint])),
        contrast=rng.uniform(0.8, 1.15),
        haze=rng.uniform(0, 0.15),
        blur=rng.uniform(0.001, 0.008),
        noise=rng.uniform(2, 9),
        road=floats(rng.uniform(0.25, 0.6) + rng.normal(0, 0.02, 3)),
        verge=floats(_VERGES[rng.integers(len(_VERGES))] * rng.uniform(0.7, 1.3)),
        walls=floats(rng.uniform(0.15, 0.8, (5, 1)) + rng.normal(0, 0.08, (5, 3))),
        wall_edges=floats(np.sort(rng.uniform(0, 1, 4))),
        lanes=(-rng.uniform(1.6, 2.6), rng.uniform(1.6, 2.6)),
        marking=floats([0.9, 0.88, 0.8] if rng.random() < 0.6 else [0.85, 0.65, 0.2]),
    )


def _draw_shot(rng: np.random.Generator) -> _Shot:
    azimuth, elevation, roll = np.deg2rad(rng.normal(0, (*_VIEW_JITTER, 1.5)))
    shade = None
    if rng.random() < 0.3:
        stripe = _upright(rng.uniform(-0.3, 0.9), rng.uniform(0.15, 0.5), rng.uniform(-0.4, 0.4))
        shade = (stripe, rng.uniform(0.2, 0.45))
    return _Shot(
        azimuth=azimuth,
        elevation=elevation,
        roll=roll,
        fill=floats(rng.uniform(0.8, 1.02, 2)),
        shift=floats(rng.normal(0, 0.025, 2)),
        gain=rng.uniform(0.85, 1.15),
        phase=rng.uniform(0, 1),
        occluders=list(_draw_occluders(rng)),
        shade=shade,
        ripple=floats(rng.uniform(-1, 1, (9, 9))),
    )


def _draw_occluders(rng: np.random.Generator) -> Iterator[tuple[Floats, Floats]]:
    """A pole, a hedge, or the edge of another vehicle, in a third of the images."""
    colour = floats(rng.uniform(0.08, 0.7) + rng.normal(0, 0.06, 3))
    kind = rng.choice(["none", "pole", "hedge", "vehicle"], p=(0.65, 0.12, 0.1, 0.13))
    if kind == "pole":
        wide, lean = rng.uniform(0.025, 0.06), rng.uniform(-0.03, 0.03)
        yield _upright(rng.uniform(0.05, 0.95), wide, lean), colour
    elif kind == "hedge":
        green = colour * floats([0.7, 1, 0.5])
        for x in np.arange(-0.05, 1.1, 0.09):
            high = rng.uniform(0.8, 0.9)
            top = [(x, high), (x + 0.05, high - 0.03), (x + 0.1, high)]
            yield floats([*top, (x + 0.12, 1.1), (x - 0.02, 1.1)]), green
    elif kind == "vehicle":
        deep, y = rng.uniform(0.06, 0.2), rng.uniform(0.25, 0.6)
        right = [(0.7 * deep, y + 0.03), (deep, y + 0.2), (deep, 1.1), (-0.1, 1.1)]
        pane = [(0.6 * deep, y + 0.06), (0.8 * deep, y + 0.2), (-0.1, y + 0.2)]
        mirrored = rng.random() < 0.5
        for corners, shown in (([(-0.1, y), *right], colour), ([(-0.1, y + 0.04), *pane], _PANE)):
            points = floats(corners)
            yield (floats([1, 0]) + points * floats([-1, 1]) if mirrored else points), shown


def _upright(x: float, wide: float, lean: float) -> Floats:
    """A stripe from above the image to below it."""
    return floats([(x, -0.1), (x + wide, -0.1), (x + wide + lean, 1.1), (x + lean, 1.1)])


def _sphere(azimuth: float, elevation: float) -> Floats:
    flat = np.cos(elevation)
    return floats([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


# --- projection -----------------------------------------------------------------------------------


class _View:
    """From metres to units of the image side (x to the right, y down)."""

    def __init__(self, camera: _Camera, shot: _Shot, length: float) -> None:
        toward = _sphere(camera.azimuth + shot.azimuth, camera.elevation + shot.elevation)
        self.eye = toward * np.float32(length * camera.distance) + floats([0, 0, 0.8])
        self.forward = -toward
        right = np.cross(self.forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        down = np.cross(self.forward, right)
        roll = camera.roll + shot.roll
        cos, sin = np.cos(roll), np.sin(roll)
        self.axes = floats([cos * right + sin * down, cos * down - sin * right])
        self.scale, self.origin = np.ones(2, np.float32), np.zeros(2, np.float32)

    def frame(self, points: Floats, shot: _Shot, stretch: float) -> None:
        """Choose scale and origin so that the points fill the image, as a crop by a detector."""
        seen = self.project(points)
        low, high = seen.min(0), seen.max(0)
        each = shot.fill / (high - low)
        self.scale = each**stretch * each.min() ** (1 - stretch)
        self.origin = 0.5 + shot.shift - self.scale * (low + high) / 2

    def project(self, points: Floats) -> Floats:
        """(N, 3) in metres -> (N, 2)."""
        away = points - self.eye
        right, down, depth = ((away * axis).sum(1) for axis in (*self.axes, self.forward))
        flat = np.stack([right, down], 1) / np.maximum(depth, 0.5)[:, None]  # never behind it
        return self.scale * flat + self.origin

    def horizon(self) -> float:
        """y of the horizon."""
        flat = self.forward * floats([1, 1, 0])
        return float(self.project(self.eye[None] + 1e4 * flat[None])[0, 1])


# --- painting -------------------------------------------------------------------------------------


def _backdrop(camera: _Camera, shot: _Shot, view: _View, size: int) -> Floats:
    """Road up to the horizon, walls and windows above it."""
    canvas = np.empty((3, size, size), np.float32)
    canvas[:] = camera.road[:, None, None]
    top = view.horizon()
    if top > -0.2:
        edges = [-0.2, *(camera.wall_edges + shot.shift[0] * 3 + 0.3 * (shot.phase - 0.5)), 1.2]
        for left, right, colour in zip(edges[:-1], edges[1:], camera.walls, strict=True):
            low, high = min(left, right), max(left, right)
            wall = [(low, -0.2), (high, -0.2), (high, top), (low, top)]
            fill_polygon(canvas, floats(wall), colour)
            for y in np.arange(-0.15, top - 0.08, 0.13):
                pane = [(low + 0.03, y), (high - 0.03, y), (high - 0.03, y + 0.06)]
                fill_polygon(canvas, floats([*pane, (low + 0.03, y + 0.06)]), 0.6 * colour, 0.5)
    return canvas


def _ground(camera: _Camera, shot: _Shot, patches: list[Patch]) -> Iterator[Patch]:
    """Verges, lines and the vehicle's shadow."""
    near, far = camera.lanes
    for inner, outer in ((near - 1.2, near - 12), (far + 1.2, far + 12)):
        yield Patch(_flat(-14, 14, inner, outer), camera.verge)
        yield Patch(_flat(-14, 14, inner, inner + 0.15 * np.sign(inner)), 1.2 * camera.verge)
    for number, y in enumerate(camera.lanes):
        if number:
            yield Patch(_flat(-14, 14, y, y + 0.14), camera.marking, 0.8)
            continue
        for x in np.arange(-12, 12, 4.0) + 4 * shot.phase:
            yield Patch(_flat(x, x + 2, y, y + 0.14), camera.marking, 0.8)
    points = np.concatenate([patch.points for patch in patches])
    (rear, right), (front, left) = points[:, :2].min(0), points[:, :2].max(0)
    black = np.zeros(3, np.float32)
    slide = -camera.sun[:2] * 1.1
    for grow, alpha in ((0.25, 0.25), (0.05, 0.35)):
        shadow = _flat(rear - grow, front + grow, right - grow, left + grow)
        yield Patch(shadow + floats([*(slide if grow > 0.1 else 0 * slide), 0]), black, alpha)


def _flat(x0: float, x1: float, y0: float, y1: float) -> Floats:
    return floats([(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)])


def _expose(
    canvas: Floats, camera: _Camera, shot: _Shot, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Texture, light, blur and noise."""
    size = canvas.shape[-1]
    if shot.shade is not None:
        fill_polygon(canvas, shot.shade[0], np.zeros(3, np.float32), shot.shade[1])
    canvas *= 1 + 0.12 * _stretched(shot.ripple, size)
    canvas = 0.5 + camera.contrast * (canvas - 0.5)
    canvas = canvas * (shot.gain * camera.gain)[:, None, None]
    canvas += camera.haze * (0.7 - canvas)
    for axis in (1, 2):
        canvas = _blurred(canvas, camera.blur * size, axis)
    return to_uint8(noisy(canvas * 255, camera.noise, rng))


# No matrix products below: NumPy would run them on all cores, where several images are drawn at
# once already.


def _stretched(lattice: Floats, size: int) -> Floats:
    """(n, n) values interpolated linearly, (size, size)."""
    places = np.linspace(0, len(lattice) - 1, size, dtype=np.float32)
    first = np.minimum(places.astype(int), len(lattice) - 2)
    share = places - first
    rows = lattice[first] + share[:, None] * (lattice[first + 1] - lattice[first])
    return rows[:, first] + share * (rows[:, first + 1] - rows[:, first])


def _blurred(canvas: Floats, sigma: float, axis: int) -> Floats:
    """A Gaussian blur along one axis, ``sigma`` in pixels; the border repeats its last value."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    size = canvas.shape[axis]
    padding = [(reach, reach) if number == axis else (0, 0) for number in range(canvas.ndim)]
    wide = np.pad(canvas, padding, mode="edge")
    window = [slice(None)] * canvas.ndim
    result = np.zeros_like(canvas)
    for start, weight in enumerate(weights):
        window[axis] = slice(start, start + size)
        result += weight * wide[tuple(window)]
    return result
