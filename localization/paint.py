"""Painting with round cones: two discs and what lies between them, as signed distances.

Coordinates are in units of the image side, y pointing down; distances are negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phasewise.data.painting import (
    Doubles,
    Floats,
    cone_distance,
    fill,
    floats,
    interpolation,
    pixel_centres,
)

Stroke = tuple[Floats, Floats]
"""A round cone (6,), as x and y of both ends and the radius at each, and its colour (3,)."""

Layers = list[tuple[str, Floats]]
"""Roles, and the cones (N, 6) that have them, in the order in which they are painted."""

_EDGE = {"dark": 0.1, "white": 0.1, "limb": 0.2}  # how much darker an outline is; others 0.35


@dataclass(frozen=True)
class Ground:
    """Two colours mixed by smooth noise and planks, on either side of a horizon."""

    colours: Floats  # (2, 2, 3) in [0, 1]: two below the horizon, two above
    lattices: list[Floats]  # three, (n, n) values in [-1, 1], coarse to fine
    horizon: float  # its y
    planks: tuple[float, Floats]  # strength; direction and frequency


@dataclass(frozen=True)
class Coat:
    """Two colours, mixed by a pattern in the frame of what wears it."""

    kind: str  # plain, stripes, spots, patches
    colours: Floats  # (2, 3) in [0, 1]
    roles: dict[str, Floats]  # colours of the layers that have but one
    frequency: float
    waves: Floats  # (2, 3): directions and phase of two waves that bend the pattern


@dataclass(frozen=True)
class Thing:
    """Layers of cones, (N, 6) each in unit coordinates, and what they wear."""

    layers: Layers
    coat: Coat
    frame: Floats  # (2, 3): unit coordinates to those of the coat
    scale: float


def moved(layers: Layers, turn: Doubles, shift: Doubles) -> Layers:
    """Layers after x -> turn x + shift; radii grow as lengths along y do."""
    scale = np.linalg.norm(turn[:, 1])

    def move(cones: Floats) -> Floats:
        ends = [cones[:, i : i + 2] @ turn.T + shift for i in (0, 2)]
        return floats(np.hstack([*ends, cones[:, 4:] * scale]))

    return [(role, move(cones)) for role, cones in layers]


def bounds(layers: Layers) -> tuple[Doubles, Doubles]:
    """The upper left and the lower right corner (2,) of the box around all cones."""
    cones = np.concatenate([cones for _, cones in layers]).astype(np.float64)
    first, second, radii = cones[:, :2], cones[:, 2:4], cones[:, 4:]
    low = np.minimum(first - radii[:, :1], second - radii[:, 1:]).min(0)
    return low, np.maximum(first + radii[:, :1], second + radii[:, 1:]).max(0)


class Canvas:
    """What has been painted so far.

    Attributes:
        pixels: float32 (3, S, S), about 0 to 1.
        covered: bool (S, S), the last things, less the strokes over them.
    """

    def __init__(self, size: int, ground: Ground) -> None:
        self.size = size
        self.line = pixel_centres(size)
        self.pixels = _ground(ground, self.line)
        self.covered = np.zeros((size, size), bool)

    def stroke(self, cone: Floats, colour: Floats) -> None:
        """One shaded cone (6,) of one colour (3,)."""
        place = self._place(cone[None])
        away = cone_distance(cone[None], *self._points(place))
        shade = 1.05 - 0.3 * np.clip(1 + away / cone[4:].max(), 0, 1)
        self._lay(place, away, colour[:, None, None] * shade)
        self.covered[place] &= away >= 0

    def thing(self, thing: Thing) -> None:
        """Its layers, each darker towards its outline, as round things are."""
        for role, cones in thing.layers:
            blend = 0.08 * thing.scale if role == "coat" else 0.0
            place = self._place(cones, blend)
            x, y = self._points(place)
            away = cone_distance(cones, x, y, blend)
            edge = np.exp(np.minimum(away, 0) / np.float32(0.06 * thing.scale))
            shade = 1.04 - np.float32(_EDGE.get(role, 0.35)) * edge
            self._lay(place, away, _colours(thing, role, x, y) * shade)
            self.covered[place] |= away < 0

    def _place(self, cones: Floats, blend: float = 0.0) -> tuple[slice, slice]:
        """Rows and columns that the cones may touch."""
        low, high = bounds([("", cones)])
        low, high = (low - blend) * self.size - 1, (high + blend) * self.size + 1
        x1, y1 = np.clip(np.floor(low).astype(int), 0, self.size)
        x2, y2 = np.clip(np.ceil(high).astype(int), 0, self.size)
        return slice(y1, y2), slice(x1, x2)

    def _points(self, place: tuple[slice, slice]) -> tuple[Floats, Floats]:
        return self.line[None, place[1]], self.line[place[0], None]

    def _lay(self, place: tuple[slice, slice], away: Floats, colour: Floats) -> None:
        """Colour where the distance is negative, with an edge one pixel soft."""
        pixels = self.pixels[:, place[0], place[1]]
        fill(pixels, away, colour, self.size)


def _ground(ground: Ground, line: Floats) -> Floats:
    """(3, S, S)."""
    hats = [interpolation(line, len(lattice)) for lattice in ground.lattices]
    coarse, middle, fine = (
        hat @ lattice @ hat.T for hat, lattice in zip(hats, ground.lattices, strict=True)
    )
    mix = np.clip(0.5 + 0.5 * coarse + 0.4 * middle + 0.2 * fine, 0, 1)
    x, y = line[None, :], line[:, None]
    strength, wave = ground.planks
    if strength:
        mix = mix + np.float32(strength) * np.sign(np.sin(x * wave[0] + y * wave[1]))
    below, beyond = ground.colours[..., None, None]
    above = y + 0.04 * coarse < ground.horizon
    first, second = (np.where(above, beyond[i], below[i]) for i in (0, 1))
    return first + mix * (second - first) + np.float32(0.04) * fine


def _colours(thing: Thing, role: str, x: Floats, y: Floats) -> Floats:
    """What a layer wears at every point: (3, 1, 1), or (3, h, w) where it has a pattern."""
    coat = thing.coat
    if role in coat.roles:
        return coat.roles[role][:, None, None]
    u, v = (row[0] * x + row[1] * y + row[2] for row in thing.frame)
    bend, sway = (np.sin(wave[0] * u + wave[1] * v + wave[2]) for wave in coat.waves)
    pace = np.float32(coat.frequency)
    if coat.kind == "stripes":
        mix = 0.4 + 2.5 * np.sin(pace * u + 1.5 * bend)
    elif coat.kind == "spots":
        mix = 3 * np.sin(pace * u + 1.2 * bend) * np.sin(pace * v + 1.2 * sway) - 0.6
    elif coat.kind == "patches":
        mix = 4 * bend * sway + np.sin(3 * u) - 0.3
    else:
        mix = 0.12 + 0.12 * bend
    first, second = coat.colours[:, :, None, None]
    light = 1 - 0.18 * np.clip(1.5 * v, -1, 1)
    colour = (first + np.clip(mix, 0, 1) * (second - first)) * light
    return colour * np.float32(0.68) if role == "far" else colour
