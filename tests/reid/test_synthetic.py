from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from reid.paint import vehicle_patches
from reid.synthetic import draw_image
from reid.vehicles import MARKS, TWINS, TYPES, draw_vehicle

SIZE, IDENTITIES, CAMERAS, SHOTS = 48, 24, 6, 2
ALL = list(product(range(IDENTITIES), range(CAMERAS), range(SHOTS)))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw_image(*which, size=SIZE, seed=0) for which in ALL])


def test_an_image_is_a_function_of_its_arguments() -> None:
    def draw(
        identity: int = 5, camera: Any = 1, shot: Any = 2, size: Any = 32, seed: int = 3
    ) -> Any:
        return draw_image(identity, camera, shot, size=size, seed=seed)

    image = draw()
    assert image.shape == (3, 32, 32)
    assert image.dtype == np.uint8
    assert draw(size=40).shape == (3, 40, 40)
    assert (draw() == image).all()
    for other in ({"identity": 6}, {"camera": 2}, {"shot": 3}, {"seed": 4}):
        assert (draw(**other) != image).mean() > 0.5


def test_the_scene_is_the_same_at_every_size() -> None:
    for identity, camera in product(range(0, 18, 3), range(CAMERAS)):
        large = draw_image(identity, camera, 0, size=192, seed=0).astype(np.float32)
        small = draw_image(identity, camera, 0, size=48, seed=0).astype(np.float32)
        shrunk = large.reshape(3, 48, 4, 48, 4).mean((2, 4))
        other = draw_image(identity, camera, 1, size=48, seed=0).astype(np.float32)
        assert np.abs(shrunk - small).mean() < 9
        assert np.abs(shrunk - small).mean() < 0.6 * np.abs(other - small).mean()


def test_every_type_occurs_and_twins_differ_in_details_alone() -> None:
    kinds = defaultdict(set)
    for group in range(3 * len(TYPES)):
        twins = [draw_vehicle(TWINS * group + member, 0) for member in range(TWINS)]
        kinds[group // len(TYPES)].add(twins[0].kind)
        for field in ("kind", "stretch", "paint", "cargo"):
            assert len({str(getattr(one, field)) for one in twins}) == 1
        assert len({(one.marks, str(one.accent)) for one in twins}) == TWINS
        assert all(one.marks and set(one.marks) <= set(MARKS) for one in twins)
    assert all(found == set(TYPES) for found in kinds.values())
    assert draw_vehicle(7, 0) != draw_vehicle(7, 1)


def eye(azimuth: float, elevation: float = 15) -> np.ndarray:
    a, e = np.deg2rad([azimuth, elevation])
    return 14 * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], np.float32)


@pytest.mark.parametrize("azimuth", [0, 35, 90, 150, 180, -120, -60])
def test_twins_differ_from_every_side(azimuth: float) -> None:
    sun = np.array([0, 0, 1], np.float32)

    def colours(identity: int) -> set[tuple[float, ...]]:
        patches = vehicle_patches(draw_vehicle(identity, 0), eye(azimuth), sun)
        return {tuple(np.round(np.r_[p.points[0], p.colour], 3)) for p in patches}

    for group in range(12):
        one, two, three = (colours(TWINS * group + member) for member in range(TWINS))
        # A truck shows little of itself from behind.
        least = 10 if abs(azimuth) < 150 else 4
        assert min(len(one ^ two), len(one ^ three), len(two ^ three)) > least


@pytest.mark.parametrize("azimuth", [5, 35, 95, 150, 185, -120])
def test_patches_are_flat_and_convex(azimuth: float) -> None:
    """The painter takes them to be."""
    sun = np.array([0, 0, 1], np.float32)
    for identity in range(36):
        for patch in vehicle_patches(draw_vehicle(identity, 0), eye(azimuth), sun):
            points = patch.points.astype(np.float64)
            sides = np.roll(points, -1, 0) - points
            turns = np.cross(sides, np.roll(sides, -1, 0))
            # Newell's normal is right for any flat polygon.
            normal = np.cross(points, np.roll(points, -1, 0)).sum(0)
            normal /= np.linalg.norm(normal)
            assert np.abs((points - points.mean(0)) @ normal).max() < 0.02
            assert (turns @ normal > -1e-3).all()


def first_found(features: np.ndarray, *, rule: bool) -> np.ndarray:
    """The nearest image of each, without those of its own identity and camera (or just itself)."""
    who = np.array(ALL)
    found = []
    for row, feature in enumerate(features):
        distance = np.linalg.norm(features - feature, axis=1)
        distance[row] = np.inf
        if rule:
            distance[(who[:, :2] == who[row, :2]).all(1)] = np.inf
        found.append(who[distance.argmin()])
    return np.array(found)


def histograms(images: np.ndarray) -> np.ndarray:
    colours = images.reshape(len(images), 3, -1) // 64
    bins = colours[:, 0] * 16 + colours[:, 1] * 4 + colours[:, 2]
    return np.sqrt(np.stack([np.bincount(one, minlength=64) for one in bins]))


@pytest.mark.parametrize("feature", ["mean", "centre", "histogram"])
def test_colour_does_not_tell_the_identity(images: np.ndarray, feature: str) -> None:
    edge = SIZE // 4
    features = {
        "mean": images.mean((2, 3)),
        "centre": images[:, :, edge:-edge, edge:-edge].mean((2, 3)),
        "histogram": histograms(images),
    }[feature]
    rank1 = (first_found(features, rule=True)[:, 0] == np.array(ALL)[:, 0]).mean()
    assert rank1 < 0.2


def test_the_camera_is_what_images_have_in_common(images: np.ndarray) -> None:
    found = first_found(
        images[:, :, ::4, ::4].reshape(len(images), -1).astype(np.float32), rule=False
    )
    assert (found[:, 1] == np.array(ALL)[:, 1]).mean() > 0.7


def test_images_are_neither_black_nor_blown_out(images: np.ndarray) -> None:
    brightness = images.mean((1, 2, 3))
    assert brightness.min() > 25
    assert brightness.max() < 200
    assert images.std((2, 3)).mean(1).min() > 8


@pytest.mark.parametrize(
    "wrong", [{"identity": -1}, {"camera": -1}, {"shot": -1}, {"size": 15}, {"seed": -1}]
)
def test_wrong_arguments_are_refused(wrong: dict[str, int]) -> None:
    arguments = {"identity": 0, "camera": 0, "shot": 0, "size": 32, "seed": 0} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        draw_image(**arguments)
