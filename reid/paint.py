"""The embedded vehicles as flat patches in space, in the order in which they are painted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phasewise.data.painting import Floats
from reid.bodies import BODIES, Block, Body, Face
from reid.vehicles import Vehicle

_DARK = np.array([0.05, 0.05, 0.06], np.float32)
_GLASS = np.array([0.12, 0.15, 0.18], np.float32)
_SKY = np.array([0.75, 0.82, 0.9], np.float32)


@dataclass(frozen=True)
class Patch:
    """A flat convex polygon: corners (N, 3) in metres, RGB in [0, 1], opacity in [0, 1]."""

    points: Floats
    colour: Floats
    alpha: float = 1.0


@dataclass
class _Sheet:
    """A visible face that is being painted on: colours are lit as the face is."""

    face: Face
    light: float
    stretch: Floats
    patches: list[Patch]

    def poly(self, points: object, colour: Floats, alpha: float = 1.0, lit: bool = True) -> None:
        shown = colour * self.light if lit else colour
        placed = self.face.at(points) * self.stretch
        self.patches.append(Patch(placed, np.clip(shown, 0, 1.2), alpha))

    def rect(
        self,
        u: tuple[float, float],
        v: tuple[float, float],
        colour: Floats,
        alpha: float = 1.0,
        lit: bool = True,
    ) -> None:
        corners = [(u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])]
        self.poly(corners, colour, alpha, lit)

    def disc(
        self, u: float, v: float, radius: float, colour: Floats, corners: int = 20, turn: float = 0
    ) -> None:
        """A regular polygon; ``radius`` in metres."""
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
        wide, high = self.face.metres()
        points = [u + radius / wide * np.sin(angle), v + radius / high * np.cos(angle)]
        self.poly(np.stack(points, 1), colour)


def vehicle_patches(vehicle: Vehicle, eye: Floats, sun: Floats) -> list[Patch]:
    """The vehicle's patches in the order in which they are painted.

    Args:
        vehicle: what to paint.
        eye: place of the camera (3,), in metres.
        sun: direction towards the light (3,), of length 1.
    """
    body = BODIES[vehicle.kind]
    patches = list(_wheels(vehicle, body))
    for block in _ordered(vehicle, body, float(eye[0])):
        for face in block.faces:
            if face.normal @ (eye - face.middle * vehicle.stretch) <= 0:
                continue
            light = 0.62 + 0.42 * max(float(face.normal @ sun), 0) + 0.1 * float(face.normal[2])
            sheet = _Sheet(face, light, vehicle.stretch, patches)
            _paint_face(sheet, vehicle, body)
    return patches


def _ordered(vehicle: Vehicle, body: Body, eye_x: float) -> list[Block]:
    """Blocks so that none hides an earlier one wrongly."""
    blocks = list(body.blocks)
    front, rear, top = body.roof
    middle, length = (front + rear) / 2, abs(front - rear)
    wide = body.blocks[-1].high
    if "box" in vehicle.marks:
        half = min(0.38 * length, 0.75)
        shift = (vehicle.place - 0.5) * (length - 2 * half) * 0.8
        blocks.append(_cuboid("box", middle + shift, half, top, 0.3, 0.55 * wide))
    if "beacon" in vehicle.marks:
        at = middle + (0.45 - 0.9 * vehicle.place) * length * 0.8
        blocks.append(_cuboid("beacon", at, 0.12, top, 0.17, 0.5 * wide))
    if vehicle.kind == "truck" and eye_x < 0:  # seen from behind, the cargo hides the cab
        blocks.append(blocks.pop(1))
    return blocks


def _cuboid(name: str, x: float, half: float, z: float, height: float, wide: float) -> Block:
    corners = [(x + half, z), (x + 0.9 * half, z + height)]
    corners += [(x - 0.9 * half, z + height), (x - half, z)]
    profile = np.array(corners, np.float32)
    return Block(name, profile, ("end", "lid", "end", ""), wide, 0.92 * wide)


def _wheels(vehicle: Vehicle, body: Body) -> Iterator[Patch]:
    """The tyres as seen below the body: each a few dark discs, one behind the other."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1) * body.radius
    wide = body.blocks[0].low
    for x in body.axles:
        for y in (-wide, wide):
            for inset in (0.24, 0.16, 0.08, 0.0):
                centre = np.array([x, y - np.sign(y) * inset, body.radius])
                yield Patch(((ring + centre) * vehicle.stretch).astype("f4"), _DARK)


# --- what is on a face ----------------------------------------------------------------------------


def _paint_face(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    face = sheet.face
    sheet.poly(face.outline, _colour(face, vehicle))
    if face.block.name == "body":
        {"side": _body_side, "front": _front, "rear": _rear}.get(face.role, _body_top)(
            sheet, vehicle, body
        )
    elif face.block.name == "cabin":
        {"side": _windows, "roof": _roof}.get(face.role, _screen)(sheet, vehicle, body)
    elif face.block.name == "cargo":
        _cargo(sheet, vehicle)
    elif face.block.name == "beacon" and face.role == "end":
        sheet.rect((-0.8, 0.8), (0.25, 0.75), vehicle.accent2, lit=False)


def _colour(face: Face, vehicle: Vehicle) -> Floats:
    name = face.block.name
    if name == "cabin" and "two_tone" in vehicle.marks:
        return vehicle.accent
    special = {
        "chassis": _DARK,
        "cargo": vehicle.cargo,
        "box": 0.4 * vehicle.accent2 + 0.1,
        "beacon": vehicle.accent,
    }
    return special.get(name, vehicle.paint)


def _along(body: Body, share: float) -> float:
    """x at a share of the way between the axles, front to rear."""
    return body.axles[0] + share * (body.axles[-1] - body.axles[0])


def _body_side(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    x, z = sheet.face.outline.T
    rear, front, foot, top = x.min(), x.max(), z.min(), z.max()
    ends = (rear + 0.06, front - 0.08)
    if "cladding" in vehicle.marks:
        sheet.rect(ends, (foot, foot + 0.4 * (top - foot)), vehicle.accent2)
    if "panel" in vehicle.marks and len(body.doors) > 1:
        sheet.rect((body.doors[1], body.doors[0]), (foot + 0.02, top - 0.03), vehicle.accent)
    if "stripe" in vehicle.marks:
        low = body.belt - 0.1 + 0.08 * vehicle.place
        sheet.rect(ends, (low, low + 0.15), vehicle.accent)
    sheet.rect(ends, (top - 0.09, top - 0.05), _SKY, 0.35)  # the shoulder catches the sky
    sheet.rect(ends, (foot, foot + 0.12), _DARK, 0.55)
    if "sticker" in vehicle.marks and vehicle.kind != "truck":
        at = _along(body, 0.3 + 0.4 * vehicle.place)
        _sign(sheet, vehicle, at, (foot + top) / 2 + 0.04, 0.34 * (top - foot))
    for door in body.doors:
        sheet.rect((door - 0.012, door + 0.012), (foot + 0.08, top - 0.02), _DARK, 0.6)
        sheet.rect((door - 0.3, door - 0.14), (top - 0.2, top - 0.165), _DARK, 0.6)
    along, up, side = vehicle.dent
    if side == sheet.face.side:
        place = (_along(body, 0.15 + 0.7 * along), foot + (0.3 + 0.4 * up) * (top - foot))
        sheet.disc(*place, 0.13, 0.45 * vehicle.paint)
        sheet.disc(place[0] + 0.02, place[1] + 0.02, 0.08, 0.75 * vehicle.paint)
    lamp = (0.12 + 0.2 * vehicle.lamps) * (1 if vehicle.kind != "bus" else 0.6)
    sheet.rect((front - 0.08 - lamp, front - 0.08), (top - 0.38, top - 0.24), _lamp(), lit=False)
    sheet.rect((rear + 0.04, rear + 0.04 + lamp), (top - 0.3, top - 0.1), _tail(), lit=False)
    for axle in body.axles:
        _wheel(sheet, vehicle, axle, body.radius)


def _wheel(sheet: _Sheet, vehicle: Vehicle, x: float, radius: float) -> None:
    rim = np.full(3, vehicle.rim, np.float32)
    sheet.disc(x, radius + 0.03, 1.16 * radius, 0.6 * _DARK)
    sheet.disc(x, radius, radius, 1.6 * _DARK)
    sheet.disc(x, radius, 0.68 * radius, rim)
    if not vehicle.rims:
        sheet.disc(x, radius, 0.3 * radius, 0.6 * rim)
        return
    for number in range(vehicle.rims):
        angle = 2 * np.pi * (number + 0.5) / vehicle.rims
        place = 0.42 * radius * np.array([np.sin(angle), np.cos(angle)])
        sheet.disc(x + place[0], radius + place[1], 0.9 * radius / vehicle.rims, _DARK, 6)


def _sign(sheet: _Sheet, vehicle: Vehicle, u: float, v: float, radius: float) -> None:
    sheet.disc(u, v, radius, vehicle.accent, vehicle.sign, np.pi / 4 * (vehicle.sign == 4))
    sheet.disc(u, v - 0.1 * radius, 0.45 * radius, vehicle.accent2, vehicle.sign + 1)


def _lamp() -> Floats:
    return np.array([0.92, 0.92, 0.85], np.float32)


def _tail() -> Floats:
    return np.array([0.7, 0.06, 0.05], np.float32)


def _bands(sheet: _Sheet, vehicle: Vehicle, v: tuple[float, float] = (0, 1)) -> None:
    """The lengthwise bands where they cross this face."""
    if "bonnet" in vehicle.marks:
        for side in (-1, 1):
            middle = side * (0.16 + 0.3 * vehicle.place)
            sheet.rect((middle - 0.11, middle + 0.11), v, vehicle.accent)


def _ends(sheet: _Sheet, vehicle: Vehicle) -> None:
    """What front and rear have in common: marks that go around, bumper and plate."""
    if "panel" in vehicle.marks and sheet.face.role == "rear":
        sheet.rect((-0.8, 0.8), (0.3, 0.95), vehicle.accent)
    _bands(sheet, vehicle, (0.3, 1))
    if "stripe" in vehicle.marks:
        sheet.rect((-1, 1), (0.56, 0.8), vehicle.accent)
    if "cladding" in vehicle.marks:
        sheet.rect((-1, 1), (0, 0.42), vehicle.accent2)
    if vehicle.bumper:
        sheet.rect((-1, 1), (0.02, 0.3), 2.2 * _DARK)
    else:
        sheet.rect((-1, 1), (0.27, 0.31), _DARK, 0.6)
    sheet.rect((-1, 1), (0, 0.08), _DARK, 0.8)


def _plate(sheet: _Sheet, vehicle: Vehicle, v: float) -> None:
    wide, high = sheet.face.metres()
    half, tall = 0.3 / wide, 0.15 / high
    sheet.rect((-half, half), (v, v + tall), vehicle.plate, lit=False)
    mark = np.array([0.95, 0.95, 0.95]) if vehicle.plate.sum() < 1.5 else _DARK
    sheet.rect((-0.75 * half, 0.75 * half), (v + 0.3 * tall, v + 0.7 * tall), mark, 0.6)


def _front(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    _ends(sheet, vehicle)
    low = 0.72 - 0.3 * vehicle.grille
    sheet.rect((-0.55, 0.55), (low, 0.86), 1.5 * _DARK)
    sheet.rect((-0.55, 0.55), (0.76, 0.8), np.full(3, vehicle.rim), 0.8)
    width = 0.2 + 0.2 * vehicle.lamps
    for side in (-1, 1):
        edges = sorted((side * 0.96, side * (0.96 - width)))
        sheet.rect((edges[0], edges[1]), (0.62, 0.9), _lamp(), lit=False)
        sheet.disc(side * (0.96 - width / 2), 0.76, 0.05, 6 * _DARK, 8)
    _plate(sheet, vehicle, 0.14)


def _rear(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    _ends(sheet, vehicle)
    width = 0.12 + 0.25 * vehicle.lamps
    for side in (-1, 1):
        edges = sorted((side * 0.97, side * (0.97 - width)))
        sheet.rect((edges[0], edges[1]), (0.55, 0.92), _tail(), lit=False)
    if "sticker" in vehicle.marks:
        _sign(sheet, vehicle, 0.45 - 0.9 * (vehicle.place > 0.5), 0.62, 0.17)
    _plate(sheet, vehicle, 0.4)
    sheet.rect((-0.97, 0.97), (0.92, 0.96), _DARK, 0.6)


def _body_top(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    if sheet.face.role == "bed":
        sheet.rect((-0.88, 0.88), (0.04, 0.96), 1.5 * _DARK)
        return
    _bands(sheet, vehicle)
    sheet.rect((-0.9, -0.86), (0, 1), _DARK, 0.35)
    sheet.rect((0.86, 0.9), (0, 1), _DARK, 0.35)
    if sheet.face.role == "hood" and "sticker" in vehicle.marks:
        _sign(sheet, vehicle, 0.35 - 0.7 * (vehicle.place > 0.5), 0.5, 0.22)


def _glass(vehicle: Vehicle) -> Floats:
    return _GLASS * (1.9 - 1.5 * vehicle.tint)


def _windows(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    outline = sheet.face.outline
    middle = outline.mean(0)
    tall = vehicle.kind in ("van", "bus")
    inset = np.array([0.95, 0.66 if tall else 0.76], np.float32)
    shape = middle + (outline - middle) * inset + [0, 0.06 if tall else 0.02]
    sheet.poly(shape, _glass(vehicle))
    top, foot = shape[:, 1].max(), shape[:, 1].min()
    shine = (foot + 0.6 * (top - foot), foot + 0.75 * (top - foot))
    sheet.rect((shape[:, 0].min() + 0.15, shape[1, 0] - 0.05), shine, _SKY, 0.22)
    if vehicle.blinds and body.pillars:
        start = shape[0, 0] if tall else shape[-1, 0]
        sheet.poly(
            [(start, foot), (body.pillars[-1], foot), (body.pillars[-1], top), shape[-2]]
            if not tall
            else [(body.pillars[-1], foot), (body.pillars[-1], top), shape[-2], shape[-1]],
            _colour(sheet.face, vehicle),
        )
    for pillar in body.pillars:
        sheet.rect((pillar - 0.05, pillar + 0.05), (foot, top), _colour(sheet.face, vehicle))
    if "rack" in vehicle.marks:
        _rail(sheet, body)


def _rail(sheet: _Sheet, body: Body) -> None:
    """A rail and its feet above the edge of the roof, on the plane of the side."""
    front, rear, top = body.roof
    low, high = min(front, rear) + 0.1, max(front, rear) - 0.1
    rail = np.full(3, 0.75, np.float32)
    sheet.rect((low, high), (top + 0.09, top + 0.14), rail)
    for share in (0.03, 0.5, 0.97):
        x = low + share * (high - low)
        sheet.rect((x - 0.04, x + 0.04), (top - 0.02, top + 0.1), 2 * _DARK)


def _roof(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    _bands(sheet, vehicle)
    if "rack" in vehicle.marks:
        for side in (-1, 1):
            sheet.rect((side * 0.88 - 0.04, side * 0.88 + 0.04), (0.05, 0.95), np.full(3, 0.75))
        for v in (0.25, 0.7):
            sheet.rect((-0.88, 0.88), (v, v + 0.06), 3 * _DARK)


def _screen(sheet: _Sheet, vehicle: Vehicle, body: Body) -> None:
    """Windshield and rear window."""
    low, high = (0.3, 0.9) if vehicle.kind == "bus" else (0.08, 0.92)
    if sheet.face.role == "rear_glass" and vehicle.kind in ("van", "bus"):
        low = 0.42
    sheet.poly([(-0.88, low), (0.88, low), (0.84, high), (-0.84, high)], _glass(vehicle))
    shine = [(-0.5, low), (-0.1, low), (0.25, high), (-0.15, high)]
    sheet.poly(shine, _SKY, 0.18)
    if sheet.face.role == "windshield" and vehicle.dent[0] > 0.5:
        sheet.rect((0.5, 0.75), (low + 0.05, low + 0.25), vehicle.accent2)


def _cargo(sheet: _Sheet, vehicle: Vehicle) -> None:
    """Sides and doors of a truck's box."""
    if sheet.face.role == "cargo_roof":
        return
    (u0, v0), (u1, v1) = sheet.face.outline.min(0), sheet.face.outline.max(0)
    width, height = u1 - u0, v1 - v0
    whole = (float(u0), float(u1))
    if "cladding" in vehicle.marks:
        sheet.rect(whole, (v0, v0 + 0.3 * height), vehicle.accent2)
    if "two_tone" in vehicle.marks:
        sheet.rect(whole, (v0 + 0.72 * height, v1), vehicle.accent)
    if "panel" in vehicle.marks:
        sheet.rect((u0 + 0.55 * width, u0 + 0.95 * width), (v0, v1), vehicle.accent)
    if "stripe" in vehicle.marks:
        low = v0 + (0.3 + 0.4 * vehicle.place) * height
        sheet.rect(whole, (low, low + 0.16 * height), vehicle.accent)
    if "bonnet" in vehicle.marks:
        wedge = [(u0, v1), (u0 + 0.35 * width, v1), (u0 + 0.75 * width, v0), (u0 + 0.4 * width, v0)]
        sheet.poly(wedge, vehicle.accent)
    if "sticker" in vehicle.marks:
        _sign(sheet, vehicle, (u0 + u1) / 2, v0 + 0.55 * height, 0.7)
    for share in (0.02, 0.5, 0.98) if sheet.face.role == "cargo_rear" else (0.01, 0.99):
        line = u0 + share * width
        sheet.rect((line - 0.01 * width, line + 0.01 * width), (v0, v1), _DARK, 0.6)
    sheet.rect(whole, (v0, v0 + 0.04 * height), _DARK, 0.7)
    if sheet.face.role == "cargo_rear":
        for side in (-1, 1):
            edges = sorted((side * 0.95, side * (0.85 - 0.15 * vehicle.lamps)))
            sheet.rect((edges[0], edges[1]), (0.01, 0.07), _tail(), lit=False)
        _plate(sheet, vehicle, 0.01)
