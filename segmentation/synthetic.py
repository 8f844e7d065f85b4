"""The embedded data set ``beads``: bright-field micrographs of microbeads, with masks.

A scene is described in unit coordinates (the image is the square ``[0, 1] x [0, 1]``, y pointing
down) and then rendered at any size, so the field of view is the same at each. What a bead looks
like in and out of focus is computed, see `segmentation.optics`. The mask is where beads are, not
where the picture is dark: rings outside a bead's rim are ground, and so is dirt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from phasewise.data.painting import (
    Floats,
    floats,
    image_stream,
    interpolation,
    noisy,
    pixel_centres,
    to_uint8,
)
from segmentation.optics import SAMPLES, Particle, profile

MAX_BEADS = 300
"""Largest mean number of beads per image for which there is room."""

_RADIUS = 0.0187  # 9.6 pixels of 512
_REFERENCE = 512  # smaller images are rendered at this side and reduced
_GRID = 256  # light and fibres are smooth: they are made on this grid
_OVERLAP = 0.03  # share of the sum of radii by which the outlines of two beads may overlap
_SPREAD = 0.3  # coefficient of variation of the expected number of beads
_TRIES = 40
_LEAST_SEEN = 0.05  # mean difference of a bead from the ground, as a share of the ground's light

# Polystyrene and glass in water or oil, and beads with iron in them; depths in bead radii.
_BEADS = (
    Particle(0.3, 0.0, 0.18, 5.0, 4.0),
    Particle(0.7, 0.0, 0.18, 5.0, 4.0),
    Particle(1.3, 0.0, 0.18, 5.0, 4.0),
    Particle(1.0, 0.35, 0.18, 5.0, 4.0),
)
_KIND_SHARE = (0.3, 0.35, 0.2, 0.15)
_SPECK = Particle(0.0, 0.9, 0.6, 25.0, 12.0)  # opaque, smaller than a bead, on another plane
_BUBBLE = Particle(-10.0, 0.0, 0.06, 1.5, 2.0)


@dataclass(frozen=True)
class _Disc:
    """A particle somewhere in the scene."""

    kind: Particle
    x: float
    y: float
    radius: float
    defocus: float  # in radii
    contrast: float  # 1 = as the optics say


@dataclass(frozen=True)
class _Fibre:
    points: Floats  # (n, 2) along it
    width: float
    contrast: float


@dataclass(frozen=True)
class _Light:
    """What the picture would be without anything on the slide, and the camera."""

    level: float
    slope: tuple[float, float]
    vignette: float
    centre: tuple[float, float]
    mottle: Floats  # (n, n) values of a smooth pattern
    tint: Floats  # (3,)
    blur: float  # standard deviation, in units of the image side
    electrons: float  # that one pixel at 1 collects
    read_noise: float


@dataclass(frozen=True)
class _Scene:
    beads: list[_Disc]
    dirt: list[_Disc]
    fibres: list[_Fibre]
    light: _Light


def draw_image(
    split: str, index: int, *, size: int, seed: int, beads: int
) -> dict[str, NDArray[np.generic]]:
    """Draw one image.

    It depends on (seed, split, index, beads) alone, and shows the same scene at every size.

    Args:
        split: ``train``, ``val`` or ``test``.
        index: which image of the split, at least 0.
        size: side S in pixels, at least 16.
        seed: which pictures are drawn, at least 0.
        beads: mean number of beads per image, 1 to `MAX_BEADS`; 109 cover about 12 %.

    Returns:
        ``image`` uint8 (3, S, S) RGB; ``mask`` uint8 (S, S), 1 = bead; ``instances`` int16
        (S, S), 0 = ground, the number of a bead from 1 on elsewhere. A bead has the same number
        at every size; one that covers no pixel's centre (at small sizes) has none.

    Raises:
        ValueError: an unknown split, or a number out of range.
    """
    rng = image_stream(split, index, size=size, seed=seed)
    if not 1 <= beads <= MAX_BEADS:
        raise ValueError(f"need 1 <= beads <= {MAX_BEADS}, got {beads=}")
    scene = _draw_scene(rng, beads)
    instances = _label(scene.beads, size)
    return {
        "image": _expose(_render(scene, size), scene.light, rng),
        "mask": (instances > 0).astype(np.uint8),
        "instances": instances,
    }


# --- what is in a scene -----------------------------------------------------------------------


def _draw_scene(rng: np.random.Generator, beads: int) -> _Scene:
    # The gamma distribution keeps the mean; counts vary more than a Poisson's alone would.
    shape = _SPREAD**-2
    wanted = int(rng.poisson(rng.gamma(shape, beads / shape)))
    radius = _RADIUS * np.exp(rng.normal(0, 0.05))
    radius_spread = rng.choice((0.02, 0.05, 0.12), p=(0.4, 0.4, 0.2))
    bubbles = _draw_bubbles(rng)
    places = _place(rng, wanted, radius, radius_spread, rng.beta(1.5, 2), bubbles)
    kind = _BEADS[rng.choice(len(_BEADS), p=_KIND_SHARE)]
    # A slide is never quite level, and beads do not lie quite at one height.
    focus, spread, tilt = rng.uniform(-3, 3), rng.choice((0.2, 0.6, 1.5)), rng.normal(0, 0.8, 2)
    faint = rng.uniform(0, 0.15)
    discs = []
    for x, y, r in places:
        defocus = focus + tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5) + rng.normal(0, spread)
        contrast = rng.uniform(0.2, 0.35) if rng.random() < faint else rng.uniform(0.5, 1)
        # In focus a clear bead nearly vanishes; what nobody could see must not be in the mask.
        within = profile(kind, defocus)[: int(SAMPLES / kind.reach)]
        contrast = max(contrast, _LEAST_SEEN / np.abs(within - 1).mean())
        discs.append(_Disc(kind, x, y, r, defocus, contrast))
    return _Scene(discs, bubbles + _draw_specks(rng), _draw_fibres(rng), _draw_light(rng))


def _place(
    rng: np.random.Generator,
    wanted: int,
    radius: float,
    spread: float,
    touching: float,
    bubbles: list[_Disc],
) -> list[tuple[float, float, float]]:
    """Centres and radii of rigid spheres on a plane, none in a bubble.

    Some lie alone; a share ``touching`` stuck to one that was there before, or to two, so that
    chains and rafts grow. Every one has its centre in the picture or little beyond its edge.
    """
    obstacles = np.zeros((len(bubbles) + wanted, 3))
    count = start = len(bubbles)
    for row, bubble in zip(obstacles, bubbles, strict=False):
        row[:] = bubble.x, bubble.y, bubble.radius
    for _ in range(wanted):
        r = radius * np.exp(rng.normal(0, spread))
        for attempt in range(_TRIES):
            known = obstacles[:count]
            if count > start and attempt < _TRIES // 2 and rng.random() < touching:
                place = _beside(rng, known[start:], r)
            else:
                place = rng.uniform(-0.6 * r, 1 + 0.6 * r, 2)
            if not (-0.6 * r <= place.min() and place.max() <= 1 + 0.6 * r):
                continue
            gaps = np.hypot(*(known[:, :2] - place).T) - (1 - _OVERLAP) * (known[:, 2] + r)
            if (gaps >= 0).all():
                obstacles[count] = *place, r
                count += 1
                break
    return [(float(x), float(y), float(r)) for x, y, r in obstacles[start:count]]


def _beside(rng: np.random.Generator, known: NDArray[np.float64], r: float) -> NDArray[np.float64]:
    """A place that touches a bead, in half of the cases a second one, too."""
    x, y, first = known[rng.integers(len(known))]
    reach = (first + r) * rng.uniform(1 - 0.8 * _OVERLAP, 1.02)
    angle = rng.uniform(0, 2 * np.pi)
    if len(known) > 1 and rng.random() < 0.5:
        away = np.hypot(known[:, 0] - x, known[:, 1] - y)
        nearest = np.argsort(away)[1]  # the first is the bead itself
        other, apart = known[nearest], away[nearest]
        second = other[2] + r
        cosine = (reach**2 + apart**2 - second**2) / (2 * reach * apart)
        if abs(cosine) < 1:
            turn = np.arccos(cosine) * rng.choice((-1, 1))
            angle = np.arctan2(other[1] - y, other[0] - x) + turn
    return np.array([x + reach * np.cos(angle), y + reach * np.sin(angle)])


def _draw_specks(rng: np.random.Generator) -> list[_Disc]:
    """Dirt on other planes than the beads."""
    return [
        _Disc(
            _SPECK,
            x=rng.uniform(-0.02, 1.02),
            y=rng.uniform(-0.02, 1.02),
            radius=_RADIUS * rng.uniform(0.12, 0.45),
            defocus=rng.choice((-1, 1)) * rng.uniform(3, 25),
            contrast=rng.uniform(0.4, 1),
        )
        for _ in range(rng.poisson(rng.choice((2, 8, 25))))
    ]


def _draw_bubbles(rng: np.random.Generator) -> list[_Disc]:
    """Now and then one of air; from some sizes and planes of focus it looks much like a bead."""
    return [
        _Disc(
            _BUBBLE,
            x=rng.uniform(-0.05, 1.05),
            y=rng.uniform(-0.05, 1.05),
            radius=_RADIUS * rng.uniform(1.7, 4.5),
            defocus=rng.uniform(-0.5, 1.5),
            contrast=rng.uniform(0.75, 1),
        )
        for _ in range(rng.poisson(0.5))
    ]


def _draw_fibres(rng: np.random.Generator) -> list[_Fibre]:
    fibres = []
    for _ in range(rng.poisson(0.7)):
        steps = np.linspace(0, 1, 25)[:, None]
        a, b, c = rng.uniform(-0.2, 1.2, (3, 2))
        points = a * (1 - steps) ** 2 + 2 * b * steps * (1 - steps) + c * steps**2
        fibres.append(_Fibre(floats(points), rng.uniform(0.008, 0.02), rng.uniform(-0.3, 0.4)))
    return fibres


def _draw_light(rng: np.random.Generator) -> _Light:
    slope = rng.normal(0, 0.09, 2)
    return _Light(
        level=rng.uniform(0.42, 0.68),
        slope=(float(slope[0]), float(slope[1])),
        vignette=rng.uniform(0.02, 0.35),
        centre=(rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65)),
        mottle=floats(rng.normal(0, rng.uniform(0.005, 0.03), (9, 9))),
        tint=floats(1 + rng.normal(0, 0.02, 3)),
        blur=rng.uniform(0, 1.0) / _REFERENCE,
        electrons=rng.uniform(1500, 12000),
        read_noise=rng.uniform(0.002, 0.01),
    )


# --- where beads are --------------------------------------------------------------------------


def _window(centre: float, reach: float, size: int) -> slice:
    """The pixels of a row or column whose centres are nearer to ``centre`` than ``reach``."""
    first = int(np.ceil((centre - reach) * size - 0.5))
    last = int(np.floor((centre + reach) * size - 0.5))
    return slice(max(first, 0), max(min(last, size - 1) + 1, 0))


def _label(beads: list[_Disc], size: int) -> NDArray[np.int16]:
    """Number of the bead over each pixel's centre; where two overlap, of the one further in."""
    line = pixel_centres(size)
    instances = np.zeros((size, size), np.int16)
    depth = np.zeros((size, size), np.float32)
    for number, bead in enumerate(beads, 1):
        rows = _window(bead.y, bead.radius, size)
        columns = _window(bead.x, bead.radius, size)
        away = np.hypot(line[columns] - bead.x, (line[rows] - bead.y)[:, None])
        inside = bead.radius - away
        wins = inside > depth[rows, columns]
        instances[rows, columns][wins] = number
        depth[rows, columns][wins] = inside[wins]
    return instances


# --- rendering --------------------------------------------------------------------------------


def _render(scene: _Scene, size: int) -> Floats:
    """Light on each pixel of the camera, (S, S); a clean slide is between 0.2 and 0.8."""
    side = max(size, _REFERENCE)
    canvas = _shine(scene, side)
    for disc in scene.dirt + scene.beads:
        _stamp(canvas, disc)
    canvas = gaussian_filter(canvas, scene.light.blur * side, truncate=3)
    if size < side:  # antialiased, which finer rings than pixels need
        reduced = Image.fromarray(canvas).resize((size, size), Image.Resampling.BOX)
        canvas = np.asarray(reduced)
    return canvas


def _stamp(canvas: Floats, disc: _Disc) -> None:
    """Multiply what a particle does to the light into the canvas."""
    size = len(canvas)
    reach = disc.kind.reach * disc.radius
    rows, columns = _window(disc.y, reach, size), _window(disc.x, reach, size)
    line = pixel_centres(size)
    away = np.hypot(line[columns] - floats(disc.x), (line[rows] - floats(disc.y))[:, None])
    effect = 1 + np.float32(disc.contrast) * (profile(disc.kind, disc.defocus) - 1)
    position = away * np.float32((SAMPLES - 1) / reach)
    canvas[rows, columns] *= np.interp(position, np.arange(SAMPLES), effect).astype(np.float32)


def _shine(scene: _Scene, side: int) -> Floats:
    """The light with its uneven spread, and fibres far out of focus, (side, side)."""
    light, line = scene.light, pixel_centres(_GRID)
    x, y = line[None, :], line[:, None]
    away = (x - light.centre[0]) ** 2 + (y - light.centre[1]) ** 2
    field = 1 + light.slope[0] * (x - 0.5) + light.slope[1] * (y - 0.5) - light.vignette * away
    bumps = interpolation(line, len(light.mottle))
    field = field + bumps @ light.mottle @ bumps.T
    for fibre in scene.fibres:
        away = _polyline_distance(fibre.points, x, y) / np.float32(fibre.width)
        field *= 1 - np.float32(fibre.contrast) * np.cos(2.2 * away) * np.exp(-(away**2) / 2)
    weights = interpolation(pixel_centres(side), _GRID, smooth=False)
    return floats(weights @ floats(light.level * field) @ weights.T)


def _polyline_distance(points: Floats, x: Floats, y: Floats) -> Floats:
    """Distance of every point of the grid to the nearest of the line's segments."""
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    for (x1, y1), (x2, y2) in pairwise(points):
        dx, dy = x2 - x1, y2 - y1
        along = np.clip(((x - x1) * dx + (y - y1) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        square = (x - x1 - along * dx) ** 2 + (y - y1 - along * dy) ** 2
        np.minimum(nearest, square, out=nearest)
    return np.sqrt(nearest)


def _expose(canvas: Floats, light: _Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera makes of the light, uint8 (3, S, S): tint, shot and read noise."""
    clean = canvas * light.tint[:, None, None]
    variance = np.maximum(clean, 0) / np.float32(light.electrons) + np.float32(light.read_noise**2)
    return to_uint8(noisy(clean, np.sqrt(variance), rng) * 255)
