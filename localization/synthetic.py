"""The embedded data set ``animals``: one drawn animal on cluttered ground, and its box.

Everything is made of round cones: two discs and what lies between them, as signed distance
functions. A scene is described in unit coordinates (the image is the square ``[0, 1] x [0, 1]``,
y pointing down) and then painted at any size. Rocks, balls and logs wear the same coats as the
animals, so that neither colour nor texture tells where the animal is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localization.animals import draw_body
from localization.paint import Canvas, Coat, Ground, Layers, Stroke, Thing, bounds, moved
from phasewise.data.painting import (
    Doubles,
    Floats,
    cone_distance,
    floats,
    image_stream,
    noisy,
    tight_box,
    to_uint8,
)

CLASS_NAMES: tuple[str, ...] = ("background", "object")

MIN_VISIBLE = 0.5
"""Share of an animal's area that border and occluders leave in sight."""

_MIN_SIDE = 0.1  # of the visible box, in units of the image side
_LONGER_SIDE = (0.33, 1.15)  # of the whole animal
_OFF_CENTRE = 0.13  # standard deviation of where it stands, as people frame their pictures
_PLACED_ANYWHERE = 0.2  # share of animals that nobody has framed
_CUT_OFF = 0.35  # share of animals that may leave the image by up to a quarter of their box
_OCCLUDED = 0.35
_DISTRACTORS = (0.5, 0.35, 0.15)  # of scenes with 0, 1, 2 of them
_GRID = 48  # visibility is judged on so many points each way, whatever the size
_TRIES = 20
_CONTRAST = 0.3  # least RGB distance between a coat and the mean ground
_FLAT: dict[str, Floats] = {
    "dark": np.array([0.06, 0.05, 0.05], np.float32),
    "white": np.array([0.95, 0.95, 0.92], np.float32),
}
_COATS = np.array([
    [0.35, 0.22, 0.12], [0.55, 0.36, 0.2], [0.82, 0.5, 0.2], [0.88, 0.78, 0.6],
    [0.93, 0.92, 0.9], [0.13, 0.12, 0.12], [0.45, 0.44, 0.45], [0.66, 0.62, 0.58],
], np.float32)  # fmt: skip
_GROUNDS = np.array([
    [0.28, 0.42, 0.16], [0.4, 0.5, 0.25], [0.2, 0.3, 0.15], [0.62, 0.54, 0.38],
    [0.5, 0.46, 0.42], [0.42, 0.32, 0.22], [0.3, 0.45, 0.55], [0.75, 0.77, 0.8],
], np.float32)  # fmt: skip


@dataclass(frozen=True)
class _Scene:
    ground: Ground
    clutter: list[Stroke]
    things: list[Thing]  # that are no animals
    animal: Thing
    occluders: list[Stroke]
    light: Floats
    noise: float


def draw_image(split: str, index: int, *, size: int, seed: int) -> dict[str, np.ndarray]:
    """Draw one image.

    It depends on (seed, split, index) alone, and shows the same scene at every size.

    Args:
        split: ``train``, ``val`` or ``test``.
        index: which image of the split, at least 0.
        size: side S in pixels, at least 16.
        seed: which pictures are drawn, at least 0.

    Returns:
        ``image`` uint8 (3, S, S) RGB; ``boxes`` float32 (1, 4), x1, y1, x2, y2 in pixels, tight
        around what can be seen of the animal; ``labels`` int64 (1,), always 1.

    Raises:
        ValueError: an unknown split, or a number out of range.
    """
    rng = image_stream(split, index, size=size, seed=seed)
    image, visible = _paint(_draw_scene(rng), size, rng)
    box = tight_box(visible)
    assert box is not None, "a scene keeps enough of its animal in sight"
    return {
        "image": image,
        "boxes": np.array([box], np.float32),
        "labels": np.ones(1, np.int64),
    }


# --- what is in a scene ---------------------------------------------------------------------------


def _draw_scene(rng: np.random.Generator) -> _Scene:
    ground = _draw_ground(rng)
    base = ground.colours[0].mean(0)
    animal, occluders = _draw_animal(rng, base)
    return _Scene(
        ground=ground,
        clutter=[stroke for _ in range(rng.integers(2, 5)) for stroke in _draw_clutter(rng, base)],
        things=[_draw_distractor(rng) for _ in range(rng.choice(3, p=_DISTRACTORS))],
        animal=animal,
        occluders=occluders,
        light=floats(rng.uniform(0.75, 1.15) * (1 + rng.uniform(-0.08, 0.08, 3))),
        noise=rng.uniform(1, 7),
    )


def _draw_ground(rng: np.random.Generator) -> Ground:
    colours: np.ndarray = _GROUNDS[rng.integers(len(_GROUNDS), size=2)][:, None]
    colours = colours * rng.uniform(0.75, 1.2, (2, 2, 1)) + rng.normal(0, 0.04, (2, 2, 3))
    strength = rng.uniform(0.15, 0.4) if rng.random() < 0.3 else 0.0
    return Ground(
        colours=floats(np.clip(colours, 0, 1)),
        lattices=[floats(rng.uniform(-1, 1, (n, n))) for n in (5, 13, 40)],
        horizon=rng.uniform(0.1, 0.6) if rng.random() < 0.5 else -1.0,
        planks=(strength, floats(rng.normal(0, 1, 2) * rng.uniform(20, 80))),
    )


def _draw_clutter(rng: np.random.Generator, ground: Floats) -> list[Stroke]:
    """Small things of one kind, scattered or in a heap: blades, leaves, pebbles, twigs."""
    kind, count = int(rng.integers(4)), int(rng.integers(5, 16))
    long, thick, taper = ((0.12, 0.012, 0.2), (0.06, 0.03, 0.1), (0.02, 0.035, 0.9),
                          (0.2, 0.008, 0.8))[kind]  # fmt: skip
    long, thick = long * rng.uniform(0.6, 1.5), thick * rng.uniform(0.6, 1.4)
    middle, spread = (0.5, 0.5) if rng.random() < 0.6 else (rng.random(2), rng.uniform(0.08, 0.25))
    starts = middle + rng.uniform(-spread, spread, (count, 2))
    turns = rng.normal(-np.pi / 2, 0.35, count) if kind == 0 else rng.uniform(0, 2 * np.pi, count)
    steps = long * np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.5, 1, (count, 1))
    radii = np.tile([thick, thick * taper], (count, 1))
    cones = np.hstack([starts, starts + steps, radii])
    base = ground if kind == 0 else _GROUNDS[rng.integers(len(_GROUNDS))]
    return _strokes(rng, cones, base, 0.5)


def _strokes(
    rng: np.random.Generator, cones: object, colour: Floats, variation: float
) -> list[Stroke]:
    """Cones (N, 6), each lighter or darker than the colour by up to a share of it."""
    shapes = floats(cones)
    count = len(shapes)
    colours = colour * rng.uniform(1 - variation, 1 + variation, (count, 1))
    return list(zip(shapes, floats(colours + rng.normal(0, 0.02, (count, 3))), strict=True))


def _draw_distractor(rng: np.random.Generator) -> Thing:
    """A rock, a ball, a log or a heap of them, in the coat of an animal."""
    centre, size, turn = rng.random(2), rng.uniform(0.03, 0.09), rng.uniform(0, np.pi)
    step = rng.uniform(0, 2 * size) * np.array([np.cos(turn), np.sin(turn)])
    cones = [[*(centre - step), *(centre + step), size, size * rng.uniform(0.6, 1)]]
    if rng.random() < 0.4:
        places = centre + rng.uniform(-size, size, (3, 2))
        cones += [[*place, *place, 0.6 * size, 0.6 * size] for place in places]
    frame = np.column_stack([np.eye(2), -centre]) / (2 * size)
    return Thing([("coat", floats(cones))], _draw_coat(rng), floats(frame), size)


def _draw_coat(rng: np.random.Generator, ground: Floats | None = None, vivid: float = 0.08) -> Coat:
    """One that stands out from a colour; ``vivid`` is the share of unnatural ones."""
    while True:
        first = _COATS[rng.integers(len(_COATS))] * rng.uniform(0.8, 1.1) + rng.normal(0, 0.03, 3)
        if rng.random() < vivid:
            first = rng.uniform(0.1, 0.95, 3)
        if ground is None or np.linalg.norm(first - ground) > _CONTRAST:
            break
    second = _COATS[rng.integers(len(_COATS))] + rng.normal(0, 0.03, 3)
    if np.linalg.norm(first - second) < 0.3:
        second = first * 0.4 if first.mean() > 0.4 else 1 - 0.5 * first
    trim = first * rng.uniform(0.45, 0.8) if rng.random() < 0.7 else second
    horn = (rng.uniform(0.6, 0.95), rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.3))
    return Coat(
        kind=str(rng.choice(("plain", "stripes", "spots", "patches"), p=(0.4, 0.2, 0.2, 0.2))),
        colours=floats(np.clip([first, second], 0, 1)),
        roles=_FLAT | {"trim": floats(np.clip(trim, 0, 1)), "horn": floats(horn),
                       "pale": floats(np.clip(0.4 * first + 0.55, 0, 1))},
        frequency=rng.uniform(14, 30),
        waves=floats(np.hstack([rng.normal(0, 4, (2, 2)), rng.uniform(0, 7, (2, 1))])),
    )  # fmt: skip


def _draw_animal(rng: np.random.Generator, ground: Floats) -> tuple[Thing, list[Stroke]]:
    """The animal in its place and what stands before it, so that enough of it is in sight."""
    species, body = draw_body(rng)
    layers = [(role, floats(cones)) for role, cones in body if cones]
    free = species in ("bird", "fish")
    coat = _draw_coat(rng, ground, 0.3 if free else 0.08)
    for attempt in range(_TRIES):
        turn = _turned(rng.normal(0, 0.35 if free else 0.07), rng.uniform(0.75, 1))
        turn[:, 0] *= rng.choice((-1, 1))
        low, high = bounds(moved(layers, turn, np.zeros(2)))
        small, large = _LONGER_SIDE
        scale = small * (large / small) ** rng.random() / float((high - low).max())
        turn, low, span = turn * scale, low * scale, (high - low) * scale
        corner = _draw_corner(rng, span)
        placed = moved(layers, turn, corner - low)
        occluders: list[Stroke] = []
        # The last tries are in the open, so that one of them succeeds.
        if rng.random() < _OCCLUDED and attempt < _TRIES - 5:
            occluders = _draw_occluder(rng, corner, span)
        if _in_sight(placed, occluders, corner, span):
            break
    inverse = np.linalg.inv(turn)
    frame = np.column_stack([inverse, -inverse @ (corner - low)])
    return Thing(placed, coat, floats(frame), scale), occluders


def _draw_corner(rng: np.random.Generator, span: Doubles) -> Doubles:
    """Upper left corner of the animal's box, of which ``span`` is the size."""
    cut = 0.25 * span * (rng.random() < _CUT_OFF)
    first, last = np.minimum(0, 1 - span) - cut, np.maximum(0, 1 - span) + cut
    if rng.random() < _PLACED_ANYWHERE:
        return rng.uniform(first, last)
    return np.clip(0.5 + rng.normal(0, _OFF_CENTRE, 2) - span / 2, first, last)


def _draw_occluder(rng: np.random.Generator, corner: Doubles, span: Doubles) -> list[Stroke]:
    """A bush, tall grass, a trunk or a fence before the animal whose box this is."""
    kind = int(rng.integers(4))
    leaf, wood = _GROUNDS[rng.integers(3)], _GROUNDS[rng.integers(3, 6)]
    if kind == 0:
        size = rng.uniform(0.12, 0.22) * span.max()
        starts = corner + span * [rng.random(), rng.uniform(0.7, 1)]
        starts = starts + rng.normal(0, 0.7 * size, (14, 2))
        ends = starts + rng.uniform(-0.6, 0.6, (14, 2)) * size
        radii = np.tile([0.28 * size, 0.1 * size], (14, 1))
        return _strokes(rng, np.hstack([starts, ends, radii]), 0.8 * leaf, 0.4)
    if kind == 1:
        x, foot = corner[0] + span[0] * rng.uniform(-0.1, 1.1, 22), corner[1] + 1.02 * span[1]
        high = foot - span[1] * rng.uniform(0.08, 0.35, 22)
        blades = [
            [a, foot, a + rng.normal(0, 0.02), b, 0.014, 0.003]
            for a, b in zip(x, high, strict=True)
        ]
        return _strokes(rng, blades, leaf, 0.5)
    if kind == 2:
        x, thick = corner[0] + span[0] * rng.uniform(0.1, 0.9), span[0] * rng.uniform(0.06, 0.13)
        lean = rng.normal(0, 0.04)
        return _strokes(rng, [[x, -0.2, x + lean, 1.2, thick, 1.2 * thick]], wood, 0.3)
    pitch, thick = rng.uniform(0.1, 0.2), rng.uniform(0.008, 0.018)
    top = corner[1] + span[1] * rng.uniform(0.2, 0.5)
    posts = [[x, top, x, 1.1, thick, thick] for x in np.arange(rng.uniform(0, pitch), 1, pitch)]
    rails = [[-0.1, y, 1.1, y, thick, thick] for y in (top + 0.04, top + 0.25)]
    return _strokes(rng, posts + rails, wood * rng.uniform(0.5, 1.2), 0.05)


def _in_sight(
    layers: Layers,
    occluders: list[Stroke],
    corner: Doubles,
    span: Doubles,
) -> bool:
    """Whether enough of the animal is inside the image and not hidden."""
    points = (np.arange(_GRID) + 0.5) / _GRID
    x, y = (floats(corner[axis] + span[axis] * points) for axis in (0, 1))
    x, y = x[None, :], y[:, None]
    whole = cone_distance(np.concatenate([cones for _, cones in layers]), x, y) < 0
    seen = whole & (x > 0) & (x < 1) & (y > 0) & (y < 1)
    if occluders:
        seen &= cone_distance(np.stack([cone for cone, _ in occluders]), x, y) > 0
    sides = span * [seen.any(0).mean(), seen.any(1).mean()]
    return bool(seen.sum() >= MIN_VISIBLE * whole.sum() and sides.min() >= _MIN_SIDE)


def _turned(angle: float, squeeze: float) -> Doubles:
    """(2, 2): a turn of what is foreshortened along x."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos * squeeze, -sin], [sin * squeeze, cos]])


# --- painting -------------------------------------------------------------------------------------


def _paint(
    scene: _Scene, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image (3, S, S), and where the animal can be seen, (S, S)."""
    canvas = Canvas(size, scene.ground)
    for stroke in scene.clutter:
        canvas.stroke(*stroke)
    for thing in scene.things:
        canvas.thing(thing)
    canvas.covered[:] = False
    canvas.thing(scene.animal)
    for stroke in scene.occluders:
        canvas.stroke(*stroke)
    pixels = canvas.pixels * (255 * scene.light[:, None, None])
    return to_uint8(noisy(pixels, scene.noise, rng)), canvas.covered
