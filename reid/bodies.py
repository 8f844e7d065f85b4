"""Bodies of the embedded vehicles: convex blocks of flat faces, in metres.

x points to the front, y to the left, z up; the ground is z = 0. Seen from outside, the visible
faces of one convex block do not hide each other, so blocks can be painted one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phasewise.data.painting import Floats


@dataclass(frozen=True)
class Block:
    """A profile in the x-z plane, as wide as ``low`` at its lowest and ``high`` at its highest.

    Attributes:
        name: body, cabin, cargo, chassis, ...
        profile: (N, 2) corners x, z of a convex polygon, from the front's foot over the top.
        roles: what the strip from corner i to corner i + 1 is; "" is never seen.
        low, high: half the width.
    """

    name: str
    profile: Floats
    roles: tuple[str, ...]
    low: float
    high: float

    def half(self, z: Floats | float) -> Floats:
        """Half the width at height z."""
        bottom, top = self.profile[:, 1].min(), self.profile[:, 1].max()
        return np.asarray(self.low + (self.high - self.low) * (z - bottom) / (top - bottom), "f4")

    @cached_property
    def faces(self) -> list[Face]:
        """Both sides, then the strips."""
        inner = np.array([self.profile[:, 0].mean(), 0, self.profile[:, 1].mean()], np.float32)
        found = [Face(self, "side", inner, side=side) for side in (-1, 1)]
        return found + [
            Face(self, role, inner, strip=number) for number, role in enumerate(self.roles) if role
        ]


class Face:
    """A flat face with coordinates of its own.

    On a side u is x and v is z, in metres. On a strip u is -1 at the right edge and 1 at the left
    one, and v goes from 0 at the lower end to 1 at the upper one.
    """

    def __init__(
        self, block: Block, role: str, inner: Floats, *, side: int = 0, strip: int = 0
    ) -> None:
        self.block, self.role, self.side = block, role, side
        corners = block.profile
        if side:
            self.outline = corners
        else:
            ends = corners[[strip, (strip + 1) % len(corners)]]
            self._low, self._high = ends[np.argsort(ends[:, 1], kind="stable")]
            self.outline = np.array([[-1, 0], [1, 0], [1, 1], [-1, 1]], np.float32)
        points = self.at(self.outline)
        self.middle = points.mean(0)
        normal = np.cross(points[1] - points[0], points[2] - points[0])
        normal /= np.linalg.norm(normal)
        self.normal = normal if normal @ (self.middle - inner) > 0 else -normal

    def at(self, points: object) -> Floats:
        """Points (N, 2) of the face as (N, 3) in space."""
        u, v = np.asarray(points, np.float32).T
        if self.side:
            return np.stack([u, self.side * self.block.half(v), v], 1).astype(np.float32)
        x, z = (self._low + v[:, None] * (self._high - self._low)).T
        return np.stack([x, u * self.block.half(z), z], 1).astype(np.float32)

    def metres(self) -> tuple[float, float]:
        """Metres per unit of u and of v, at the face's middle."""
        if self.side:
            return 1.0, 1.0
        length = float(np.linalg.norm(self._high - self._low))
        return float(self.block.half(float(self.middle[2]))), max(length, 1e-3)


@dataclass(frozen=True)
class Body:
    """Where things are on a type of vehicle.

    Attributes:
        blocks: in the order in which they are painted when seen from the front.
        axles: x of the wheels.
        radius: of the wheels.
        doors: x of the door lines, front to rear.
        pillars: x of the pillars between the side windows.
        belt: height z of the stripe and the stickers on the side.
        roof: x of the front and the rear end, and z, of the highest roof.
    """

    blocks: tuple[Block, ...]
    axles: tuple[float, ...]
    radius: float
    doors: tuple[float, ...]
    pillars: tuple[float, ...]
    belt: float
    roof: tuple[float, float, float]


def _block(
    name: str, points: list[tuple[float, float]], roles: str, low: float, high: float
) -> Block:
    padded = [role.strip("-") for role in roles.split()]
    return Block(name, np.array(points, np.float32), tuple(padded), low, high)


def _car_body(nose: float, tail: float, cowl: float, deck: float, roles: str) -> Block:
    """The lower half of a car; its hood starts at ``nose`` - .1 and ends at ``cowl``."""
    points = [(nose, 0.3), (nose - 0.06, 0.76), (cowl, 0.96), (deck, 0.98), (tail + 0.05, 0.93)]
    return _block("body", [*points, (tail, 0.32)], roles, 0.86, 0.9)


BODIES: dict[str, Body] = {
    "sedan": Body(
        blocks=(
            _car_body(2.3, -2.3, 1.05, -1.65, "front hood - trunk rear -"),
            _block(
                "cabin",
                [(1.1, 0.95), (0.3, 1.43), (-0.85, 1.45), (-1.75, 0.96)],
                "windshield roof rear_glass -",
                0.84,
                0.6,
            ),
        ),
        axles=(1.42, -1.38),
        radius=0.33,
        doors=(0.85, -0.1, -0.95),
        pillars=(-0.15,),
        belt=0.72,
        roof=(0.25, -0.8, 1.45),
    ),
    "hatchback": Body(
        blocks=(
            _car_body(1.95, -1.9, 0.95, -1.8, "front hood - - rear -"),
            _block(
                "cabin",
                [(1.05, 0.95), (0.35, 1.5), (-1.3, 1.52), (-1.85, 0.96)],
                "windshield roof rear_glass -",
                0.84,
                0.62,
            ),
        ),
        axles=(1.2, -1.2),
        radius=0.33,
        doors=(0.75, -0.55),
        pillars=(-0.5,),
        belt=0.72,
        roof=(0.3, -1.25, 1.52),
    ),
    "van": Body(
        blocks=(
            _car_body(2.35, -2.35, 1.7, -2.2, "front hood - - rear -"),
            _block(
                "cabin",
                [(1.85, 0.95), (1.05, 1.92), (-2.2, 1.98), (-2.33, 0.96)],
                "windshield roof rear_glass -",
                0.9,
                0.78,
            ),
        ),
        axles=(1.5, -1.45),
        radius=0.34,
        doors=(1.1, 0.15, -1.1),
        pillars=(0.2, -1.05),
        belt=0.74,
        roof=(1.0, -2.15, 1.97),
    ),
    "pickup": Body(
        blocks=(
            _block(
                "body",
                [(2.55, 0.42), (2.5, 0.98), (1.25, 1.12), (-0.75, 1.12), (-2.6, 1.1), (-2.6, 0.45)],
                "front hood - bed rear -",
                0.93,
                0.93,
            ),
            _block(
                "cabin",
                [(1.3, 1.1), (0.65, 1.68), (-0.55, 1.7), (-0.75, 1.1)],
                "windshield roof rear_glass -",
                0.88,
                0.68,
            ),
        ),
        axles=(1.6, -1.6),
        radius=0.4,
        doors=(1.05, 0.1, -0.72),
        pillars=(0.05,),
        belt=0.86,
        roof=(0.6, -0.5, 1.7),
    ),
    "truck": Body(
        blocks=(
            _block("chassis", [(3.2, 0.5), (3.2, 0.7), (-3.3, 0.7), (-3.3, 0.5)], "- - - -", 1, 1),
            _block(
                "cargo",
                [(1.55, 0.75), (1.55, 3.0), (-3.4, 3.0), (-3.4, 0.75)],
                "cargo_front cargo_roof cargo_rear -",
                1.12,
                1.12,
            ),
            _block(
                "body",
                [(3.35, 0.42), (3.35, 1.3), (1.8, 1.3), (1.8, 0.42)],
                "front - - -",
                1.02,
                1.02,
            ),
            _block(
                "cabin",
                [(3.35, 1.3), (3.05, 2.2), (1.8, 2.25), (1.8, 1.3)],
                "windshield roof rear_glass -",
                1.02,
                0.92,
            ),
        ),
        axles=(2.5, -1.9),
        radius=0.46,
        doors=(2.95, 1.95),
        pillars=(),
        belt=1.0,
        roof=(2.95, 1.85, 2.24),
    ),
    "bus": Body(
        blocks=(
            _block(
                "body",
                [(4.0, 0.38), (4.05, 1.3), (-4.0, 1.3), (-4.0, 0.4)],
                "front - rear -",
                1.18,
                1.2,
            ),
            _block(
                "cabin",
                [(4.05, 1.3), (3.85, 2.85), (-3.95, 2.85), (-4.0, 1.3)],
                "windshield roof rear_glass -",
                1.2,
                1.12,
            ),
        ),
        axles=(2.6, -2.3),
        radius=0.46,
        doors=(3.7, 2.95, -0.4, -1.2),
        pillars=(2.5, 1.2, -0.1, -1.4, -2.7),
        belt=0.92,
        roof=(3.7, -3.9, 2.85),
    ),
}
"""The types of vehicle."""
