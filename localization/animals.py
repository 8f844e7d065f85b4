"""The bodies of the embedded animals: four-legged ones, faces, birds and fish, out of round cones.

A body stands in its own frame, in lengths of about one trunk: it faces right, y points down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

Cone = tuple[float, float, float, float, float, float]
"""x and y of the one end, x and y of the other, and the radius at each."""

Layer = tuple[str, list[Cone]]
"""A role and the cones that have it: ``coat``, ``limb`` and ``far`` wear the animal's pattern, the
far ones in shade; ``trim``, ``pale``, ``horn``, ``dark`` and ``white`` are of one colour each."""

Point = tuple[float, float]


@dataclass(frozen=True)
class _Build:
    """A four-legged species."""

    length: float  # from hip to shoulder
    girth: float  # radius of the trunk
    leg: float
    limb: float  # radius of a leg
    neck: float
    rise: float  # of the neck, degrees
    head: float  # radius
    muzzle: float
    ear: float
    tail: float
    brush: float  # radius of the tail
    ears: str  # up, hang, side
    poses: tuple[str, ...]  # walk, graze, sit, lie, face
    mane: bool = False


_BUILDS = {
    "cat": _Build(
        length=0.95, girth=0.22, leg=0.42, limb=0.065, neck=0.2, rise=45, head=0.21, muzzle=0.06,
        ear=0.22, tail=0.9, brush=0.05, ears="up", poses=("walk", "sit", "lie", "face"),
    ),
    "wolf": _Build(
        length=1.0, girth=0.25, leg=0.58, limb=0.075, neck=0.36, rise=45, head=0.18, muzzle=0.27,
        ear=0.22, tail=0.6, brush=0.09, ears="up", poses=("walk", "sit", "lie", "face"),
    ),
    "dog": _Build(
        length=1.0, girth=0.26, leg=0.5, limb=0.085, neck=0.32, rise=52, head=0.2, muzzle=0.24,
        ear=0.3, tail=0.5, brush=0.05, ears="hang", poses=("walk", "sit", "lie", "face"),
    ),
    "horse": _Build(
        length=1.15, girth=0.3, leg=0.95, limb=0.07, neck=0.75, rise=48, head=0.15, muzzle=0.4,
        ear=0.16, tail=0.75, brush=0.09, ears="up", poses=("walk", "graze"), mane=True,
    ),
    "cow": _Build(
        length=1.2, girth=0.36, leg=0.55, limb=0.085, neck=0.3, rise=22, head=0.19, muzzle=0.28,
        ear=0.24, tail=0.6, brush=0.03, ears="side", poses=("walk", "graze"),
    ),
    "rabbit": _Build(
        length=0.5, girth=0.27, leg=0.2, limb=0.07, neck=0.18, rise=40, head=0.2, muzzle=0.07,
        ear=0.5, tail=0.08, brush=0.11, ears="up", poses=("walk", "sit", "face"),
    ),
}  # fmt: skip
SPECIES = (*_BUILDS, "bird", "fish")


def draw_body(rng: np.random.Generator) -> tuple[str, list[Layer]]:
    """A species, and its body's layers in the order in which they are painted."""
    species = str(rng.choice(SPECIES))
    if species == "bird":
        return species, _bird(rng)
    if species == "fish":
        return species, _fish(rng)
    build = _varied(rng, _BUILDS[species])
    pose = str(rng.choice(build.poses))
    return species, _face(rng, build) if pose == "face" else _on_legs(rng, build, pose)


def _varied(rng: np.random.Generator, build: _Build) -> _Build:
    """Another individual: every length is its own."""
    lengths = {
        item.name: getattr(build, item.name) * rng.uniform(0.85, 1.18)
        for item in fields(build)
        if isinstance(getattr(build, item.name), float)
    }
    return replace(build, **lengths)


def _ball(x: float, y: float, radius: float) -> Cone:
    return (x, y, x, y, radius, radius)


def _curve(
    start: Point, degrees: float, length: float, radii: Point, curl: float = 0, pieces: int = 4
) -> list[Cone]:
    """A chain of cones; 0 degrees is forward, 90 is up, and ``curl`` turns it from end to end."""
    turns = np.deg2rad(degrees + curl * np.arange(pieces) / max(pieces - 1, 1))
    steps = length / pieces * np.stack([np.cos(turns), -np.sin(turns)], 1)
    x, y = np.cumsum([start, *steps], 0).T.tolist()
    radius = np.linspace(*radii, pieces + 1).tolist()
    return [(x[i], y[i], x[i + 1], y[i + 1], radius[i], radius[i + 1]) for i in range(pieces)]


# --- on four legs ---------------------------------------------------------------------------------


def _on_legs(rng: np.random.Generator, build: _Build, pose: str) -> list[Layer]:
    half, girth = build.length / 2, build.girth
    ground = 0.5 * girth + build.leg
    hip, shoulder = (-half, 0.0), (half, -0.03)
    if pose == "sit":
        hip, shoulder = (-0.55 * half, ground - 0.85 * girth), (0.35 * half, -0.3 * girth)
    elif pose == "lie":
        ground = 0.95 * girth
    far, near = (_legs(rng, build, pose, hip, shoulder, ground) for _ in range(2))
    trunk: list[Cone] = [(*hip, *shoulder, girth, girth * rng.uniform(0.95, 1.1))]
    rise = build.rise + rng.uniform(-12, 12) + 12 * (pose == "sit")
    pitch = rng.uniform(-35, -8)
    if pose == "graze":
        rise, pitch = rng.uniform(-55, -35), rng.uniform(-75, -55)
    root = (shoulder[0] + 0.2 * girth, shoulder[1] - 0.35 * girth)
    neck = _curve(root, rise, build.neck, (0.7 * girth, 0.8 * build.head), pieces=1)
    skull = (neck[-1][2], neck[-1][3])
    behind, head, front = _head(rng, build, skull, pitch)
    tail = _tail(rng, build, pose, hip, ground)
    mane = _curve((root[0] - 0.7 * girth, root[1] - 0.3 * girth), rise + 8, 1.2 * build.neck,
                  (0.1, 0.09), pieces=3) if build.mane else []  # fmt: skip
    return [
        ("far", far + behind),
        ("trim" if build.mane else "coat", tail),
        ("coat", trunk + neck),
        ("trim", mane),
        ("coat", head),
        ("limb", near),
        *front,
    ]


def _legs(
    rng: np.random.Generator,
    build: _Build,
    pose: str,
    hip: Point,
    shoulder: Point,
    ground: float,
) -> list[Cone]:
    """The two legs of one side."""
    limb, girth = build.limb, build.girth
    sole = ground - 0.8 * limb
    if pose == "lie":
        reach = 0.7 * build.leg * rng.uniform(0.7, 1.2)
        fore: list[Cone] = [(shoulder[0], 0.6 * girth, shoulder[0] + reach, sole, 1.5 * limb, limb)]
    else:
        fore = _leg(rng, build, (shoulder[0] - 0.1, shoulder[1] + 0.4 * girth), sole, -1,
                    0.15 if pose == "sit" else 1)  # fmt: skip
    if pose in ("walk", "graze"):
        return fore + _leg(rng, build, (hip[0] - 0.05, hip[1] + 0.3 * girth), sole, 1, 1)
    knee = (hip[0] + 0.45 * girth, sole - 0.4 * girth)
    thigh: Cone = (hip[0], hip[1] + 0.1 * girth, *knee, 0.75 * girth, 0.45 * girth)
    foot: Cone = (knee[0] - 0.3 * girth, sole, knee[0] + 0.9 * girth, sole, limb, 0.9 * limb)
    return [*fore, thigh, foot]


def _leg(
    rng: np.random.Generator, build: _Build, top: Point, sole: float, bend: int, swing: float
) -> list[Cone]:
    limb, long = build.limb, sole - top[1]
    step = swing * rng.uniform(-0.38, 0.38) * long
    knee = (top[0] + 0.45 * step - 0.06 * bend * long, top[1] + 0.52 * long)
    foot = (top[0] + step - 0.04 * bend * long, sole)
    paw: Cone = (*foot, foot[0] + 1.1 * limb, sole, 0.9 * limb, 0.8 * limb)
    return [(*top, *knee, 2.1 * limb, 1.1 * limb), (*knee, *foot, 1.1 * limb, 0.8 * limb), paw]


def _tail(
    rng: np.random.Generator, build: _Build, pose: str, hip: Point, ground: float
) -> list[Cone]:
    root = (hip[0] - 0.75 * build.girth, hip[1] - 0.35 * build.girth)
    brush = build.brush
    if build.tail < 0.2:  # a scut
        return [_ball(root[0] - 0.3 * brush, root[1] + 0.3 * build.girth, brush)]
    if build.mane or build.ears == "side":  # hangs
        return _curve(root, 205, build.tail, (0.6 * brush, 1.2 * brush), rng.uniform(55, 75))
    if pose in ("sit", "lie"):
        low = (root[0] + 0.2 * build.girth, min(root[1] + build.girth, ground - 1.2 * brush))
        return _curve(low, 180 + rng.uniform(-10, 5), build.tail, (1.2 * brush, brush), -70)
    return _curve(root, rng.uniform(120, 190), build.tail, (1.2 * brush, 0.8 * brush),
                  rng.uniform(-80, 60))  # fmt: skip


def _head(
    rng: np.random.Generator, build: _Build, skull: Point, pitch: float
) -> tuple[list[Cone], list[Cone], list[Layer]]:
    """The far ear; skull and muzzle; and what lies upon them."""
    size = build.head
    turn = np.deg2rad(pitch)
    cos, sin = float(np.cos(turn)), float(-np.sin(turn))

    def at(forward: float, down: float) -> Point:
        """A place in lengths of the head, in the head's own frame."""
        return (skull[0] + size * (forward * cos - down * sin),
                skull[1] + size * (forward * sin + down * cos))  # fmt: skip

    tip = 0.75 + build.muzzle / size
    muzzle: Cone = (*at(0.35, 0.2), *at(tip, 0.3), 0.68 * size, 0.4 * size)
    ears = [_ear(rng, build, at, -0.35), _ear(rng, build, at, 0.05)]
    return (
        [ears[1]],
        [_ball(*skull, size), muzzle],
        [
            ("trim" if build.ears == "hang" else "coat", [ears[0]]),
            ("dark", [_ball(*at(tip + 0.3, 0.14), 0.17 * size)]),
            ("dark", [_ball(*at(0.38, -0.2), 0.15 * size)]),
            ("white", [_ball(*at(0.43, -0.25), 0.05 * size)]),
        ],
    )  # fmt: skip


def _ear(
    rng: np.random.Generator, build: _Build, at: Callable[[float, float], Point], place: float
) -> Cone:
    """``at`` maps the head's frame to the body's; ``place`` is how far forward it grows."""
    long = build.ear / build.head
    base = at(place, -0.72)
    if build.ears == "hang":
        return (*base, *at(place - 0.35, long - 0.72), 0.24 * build.head, 0.36 * build.head)
    if build.ears == "side":
        return (*base, *at(place - long, -0.75), 0.22 * build.head, 0.12 * build.head)
    blunt = 0.26 if long > 1.6 else 0.04
    lean = rng.uniform(-0.35, 0.0) * long
    return (*base, *at(place + lean, -0.72 - long), 0.36 * build.head, blunt * build.head)


# --- from in front, birds, fish -------------------------------------------------------------------


def _face(rng: np.random.Generator, build: _Build) -> list[Layer]:
    """Sitting, seen from in front."""
    size, limb = 1.5 * build.head, 1.3 * build.limb
    tilt = rng.uniform(-0.12, 0.12)
    long, hang = 1.3 * build.ear, build.ears == "hang"
    blunt = 0.2 if long > 0.5 else 0.04
    ears: list[Cone] = []
    for side in (-1, 1):
        base = (tilt + side * 0.62 * size, -0.68 * size)
        if hang:
            low = (tilt + side * 1.1 * size, base[1] + long)
            ears.append((*base, *low, 0.22 * size, 0.3 * size))
        else:
            top = (tilt + side * size * rng.uniform(0.6, 0.95), base[1] - long)
            ears.append((*base, *top, 0.36 * size, blunt * size))
    foot = size + build.leg + 0.35
    legs: list[Cone] = [
        (side * 0.5 * build.girth, size + 0.2, side * 0.55 * build.girth, foot, 1.4 * limb, limb)
        for side in (-1, 1)
    ]
    thighs: list[Cone] = [
        (side * 1.0 * build.girth, foot - 0.25, side * 1.35 * build.girth, foot, 0.22, 0.12)
        for side in (-1, 1)
    ]
    body: Cone = (0.5 * tilt, 0.6 * size, 0, foot - 0.3, 0.85 * build.girth, 1.3 * build.girth)
    eyes = [(tilt + side * 0.4 * size, -0.12 * size) for side in (-1, 1)]
    nose = (tilt, 0.35 * size)
    snout: Cone = (tilt, 0.25 * size, tilt, 0.6 * size, 0.3 * size, 0.36 * size)
    head: Layer = ("coat", [_ball(tilt, 0, size), (tilt, 0, *nose, size, 0.6 * size)])
    return [
        ("far", _curve((0.9 * build.girth, foot - 0.1), 0, build.tail, (build.brush,) * 2, 80)),
        ("coat", [body]),
        ("limb", thighs),
        ("limb", legs),
        *([head, ("trim", ears)] if hang else [("coat", ears), head]),
        ("pale", [snout]),
        ("dark", [_ball(*eye, 0.16 * size) for eye in eyes] + [_ball(*nose, 0.13 * size)]),
        ("white", [_ball(x + 0.05 * size, y - 0.05 * size, 0.05 * size) for x, y in eyes]),
    ]


def _bird(rng: np.random.Generator) -> list[Layer]:
    """Ducks to herons, standing or in flight."""
    leg, neck = (float(rng.uniform(0.12, 0.3)),) * 2
    if rng.random() < 0.3:
        leg, neck = (float(x) for x in rng.uniform(0.5, 0.9, 2))
    size = rng.uniform(0.14, 0.19)
    trunk: Cone = (0.05, 0, -0.45, 0.12, rng.uniform(0.25, 0.33), 0.12)
    throat = _curve((0.15, -0.12), rng.uniform(50, 80), neck, (0.17, 0.7 * size), 20, pieces=3)
    skull = (throat[-1][2] + 0.04, throat[-1][3])
    beak: Cone = (skull[0] + 0.5 * size, skull[1] + 0.02, skull[0] + size + rng.uniform(0.1, 0.35),
                  skull[1] + rng.uniform(0.02, 0.09), 0.07, 0.02)  # fmt: skip
    eye = (skull[0] + 0.35 * size, skull[1] - 0.25 * size)
    fan: list[Cone] = [
        (-0.45, 0.12, -0.45 - long, 0.12 + drop, 0.1, 0.05)
        for long, drop in zip(rng.uniform(0.3, 0.55, 2), rng.uniform(-0.15, 0.2, 2), strict=True)
    ]
    flies = rng.random() < 0.3
    if flies:
        lift = float(rng.uniform(0.55, 0.95))
        far: list[Cone] = [(0.05, -0.1, 0.3, -lift, 0.16, 0.05)]
        wing: list[Cone] = [
            (0, -0.05, -0.3, -lift, 0.2, 0.07),
            (-0.15, 0, -0.5, -0.8 * lift, 0.15, 0.05),
        ]
    else:
        far = []
        wing = [(0.05, -0.02, -0.5, 0.1, 0.18, 0.05)]
    return [
        ("far", far + fan),
        ("horn", [] if flies else _bird_legs(leg)),
        ("coat", [trunk, *throat, _ball(*skull, size)]),
        ("horn", [beak]),
        ("trim", wing),
        ("dark", [_ball(*eye, 0.2 * size)]),
        ("white", [_ball(eye[0] + 0.01, eye[1] - 0.01, 0.07 * size)]),
    ]


def _bird_legs(leg: float) -> list[Cone]:
    legs: list[Cone] = []
    for x in (-0.12, 0.06):
        legs += [(x, 0.2, x + 0.02, 0.28 + leg, 0.04, 0.028)]
        legs += [(x - 0.03, 0.29 + leg, x + 0.16, 0.29 + leg, 0.028, 0.022)]
    return legs


def _fish(rng: np.random.Generator) -> list[Layer]:
    deep = float(rng.uniform(0.17, 0.38))
    trunk: list[Cone] = [
        (0.6, 0.02, 0.15, 0, 0.1, deep),
        (0.15, 0, -0.55, 0, deep, 0.07),
    ]
    spread, long = (float(x) for x in rng.uniform(0.2, 0.4, 2))
    tail: list[Cone] = [(-0.5, 0, -0.55 - long, side * spread, 0.07, 0.06) for side in (-1, 1)]
    back: Cone = (0.1, -0.75 * deep, -0.3, -deep - rng.uniform(0.02, 0.15), 0.13, 0.03)
    belly: Cone = (-0.05, 0.6 * deep, -0.3, deep + 0.05, 0.1, 0.03)
    side: Cone = (0.18, 0.1 * deep, -0.05, 0.45 * deep, 0.04, 0.09)
    return [
        ("trim", [*tail, back, belly]),
        ("coat", trunk),
        ("trim", [side]),
        ("white", [_ball(0.48, -0.2 * deep, 0.075)]),
        ("dark", [_ball(0.49, -0.2 * deep, 0.045)]),
    ]
