"""The embedded vehicles: what tells one from another.

Vehicles come in groups of `TWINS` of one type, shape and paint, as in traffic; within a group
only details differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phasewise.data.painting import Floats
from reid.bodies import BODIES

TYPES: tuple[str, ...] = tuple(BODIES)

TWINS = 3
"""Vehicles with the same type, shape and paint."""

MARKS: tuple[str, ...] = (
    "stripe",  # a band around the body
    "bonnet",  # two bands lengthwise over hood, roof and tail
    "sticker",  # a sign on both sides, hood and tail
    "two_tone",  # another colour from the windows up
    "cladding",  # another colour near the ground
    "panel",  # doors and a tail in another paint, as after a repair
    "rack",  # rails on the roof
    "box",  # a box on the roof
    "beacon",  # a lit sign on the roof
)

# White, silver, grey, black, then colours; traffic is mostly the former.
PAINTS = np.array(
    [
        [0.9, 0.9, 0.88],
        [0.66, 0.68, 0.7],
        [0.4, 0.42, 0.44],
        [0.12, 0.12, 0.14],
        [0.68, 0.1, 0.1],
        [0.12, 0.22, 0.55],
        [0.1, 0.36, 0.24],
        [0.85, 0.66, 0.12],
        [0.72, 0.62, 0.48],
    ],
    np.float32,
)
ACCENTS = np.array(
    [
        [0.95, 0.95, 0.95],
        [0.06, 0.06, 0.07],
        [0.9, 0.12, 0.1],
        [0.98, 0.8, 0.1],
        [0.1, 0.45, 0.9],
        [0.15, 0.7, 0.3],
        [0.95, 0.45, 0.05],
        [0.6, 0.2, 0.65],
    ],
    np.float32,
)
PLATES = np.array(
    [[0.95, 0.95, 0.92], [0.95, 0.8, 0.1], [0.1, 0.3, 0.75], [0.1, 0.5, 0.25]], np.float32
)
_LEAST_CONTRAST = 0.55  # RGB distance between an accent and the paint below it


@dataclass(frozen=True)
class Vehicle:
    """What an identity looks like.

    Attributes:
        kind: one of `TYPES`.
        stretch: factors of length, width and height.
        paint, accent, accent2: RGB in [0, 1], of the body and of the marks.
        marks: each one of `MARKS`.
        rims: how many spokes; 0 is a plain disc.
        rim: brightness of the rims.
        plate, cargo: RGB.
        tint: how dark the windows are, 0..1.
        bumper: whether bumpers and mirrors are of black plastic.
        grille: height of the grille, 0..1 of its greatest.
        lamps: width of the lamps, 0..1 of their greatest.
        sign: corners of the sticker, 3, 4 or many.
        place: where along the sides marks sit, 0 = front, 1 = rear.
        dent: x (0..1 along), z (0..1 up), side (-1, 1) of a dent.
        blinds: whether the rear side windows are closed.
    """

    kind: str
    stretch: Floats
    paint: Floats
    accent: Floats
    accent2: Floats
    marks: tuple[str, ...]
    rims: int
    rim: float
    plate: Floats
    cargo: Floats
    tint: float
    bumper: bool
    grille: float
    lamps: float
    sign: int
    place: float
    dent: tuple[float, float, int]
    blinds: bool

    @property
    def length(self) -> float:
        """In metres."""
        x = np.concatenate([block.profile[:, 0] for block in BODIES[self.kind].blocks])
        return float(np.ptp(x) * self.stretch[0])


def draw_vehicle(identity: int, seed: int) -> Vehicle:
    """The vehicle of an identity: a function of (seed, identity).

    Every type occurs once in `len(TYPES)` groups; the first marks of the vehicles of a group
    differ.
    """
    group, member = divmod(identity, TWINS)
    order = np.random.default_rng((seed, 0, group // len(TYPES))).permutation(len(TYPES))
    kind = TYPES[order[group % len(TYPES)]]
    rng = np.random.default_rng((seed, 1, group))
    stretch = rng.uniform((0.93, 0.96, 0.94), (1.07, 1.04, 1.08)).astype(np.float32)
    paint = _near(rng, PAINTS[rng.integers(len(PAINTS))])
    cargo = _near(rng, PAINTS[rng.integers(3)]) if rng.random() < 0.6 else paint
    first = rng.permutation(len(MARKS))
    own = np.random.default_rng((seed, 2, identity))
    marks = {MARKS[first[member]]}
    marks |= {MARKS[i] for i in own.integers(len(MARKS), size=2) if own.random() < 0.6}
    below = cargo if kind == "truck" else paint
    return Vehicle(
        kind=kind,
        stretch=stretch,
        paint=paint,
        accent=_accent(own, below),
        accent2=_accent(own, below),
        marks=tuple(mark for mark in MARKS if mark in marks),
        rims=int(own.choice([0, 4, 5, 6, 8])),
        rim=own.uniform(0.25, 0.95),
        plate=PLATES[own.choice(len(PLATES), p=(0.4, 0.25, 0.2, 0.15))],
        cargo=cargo,
        tint=own.uniform(0, 1),
        bumper=bool(own.random() < 0.5),
        grille=own.uniform(0, 1),
        lamps=own.uniform(0, 1),
        sign=int(own.choice([3, 4, 12])),
        place=own.uniform(0, 1),
        dent=(own.uniform(), own.uniform(), int(own.choice([-1, 1]))),
        blinds=bool(own.random() < 0.3),
    )


def _near(rng: np.random.Generator, colour: Floats) -> Floats:
    return np.clip(colour + rng.normal(0, 0.025, 3), 0.03, 0.97).astype(np.float32)


def _accent(rng: np.random.Generator, below: Floats) -> Floats:
    """A colour that can be told from the paint below it."""
    far = np.linalg.norm(ACCENTS - below, axis=1) > _LEAST_CONTRAST
    return ACCENTS[rng.choice(np.flatnonzero(far))]
