from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from localization import synthetic
from localization.animals import SPECIES, draw_body
from localization.synthetic import draw_image

COUNT, SIZE = 200, 96


def _draw(split: str = "train", count: int = COUNT, *, size: Any = SIZE, seed: int = 0) -> Any:
    return [draw_image(split, i, size=size, seed=seed) for i in range(count)]


def _boxes(drawn: Any) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([one["boxes"] for one in drawn]))


def _scene(index: int) -> synthetic._Scene:
    return synthetic._draw_scene(np.random.default_rng((0, 0, index)))


@pytest.fixture(scope="module")
def train() -> Any:
    return _draw()


def test_shapes_and_types(train: Any) -> None:
    expected = {
        "image": ((3, SIZE, SIZE), np.uint8),
        "boxes": ((1, 4), np.float32),
        "labels": ((1,), np.int64),
    }
    for one in train:
        assert {k: (v.shape, v.dtype.type) for k, v in one.items()} == expected
        assert one["labels"].tolist() == [1]


def test_same_arguments_same_pictures(train: Any) -> None:
    again = _draw(count=5)
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(train, again, strict=False) for k in a)


def test_splits_and_seeds_share_no_picture(train: Any) -> None:
    drawn = [*train, *_draw(count=10, seed=1), *_draw("val", 10), *_draw("test", 10)]
    assert len({one["image"].tobytes() for one in drawn}) == len(drawn)
    assert len({one["boxes"].tobytes() for one in drawn}) > 0.95 * len(drawn)


@pytest.mark.parametrize("size", [48, 192])
def test_the_scene_is_the_same_at_every_size(train: Any, size: int) -> None:
    alike = []
    for one, other in zip(train, _draw(count=20, size=size), strict=False):
        coarse, fine = sorted((one, other), key=lambda drawn: drawn["image"].shape[-1])
        side = coarse["image"].shape[-1]
        # A coarse pixel is in the box if its centre is; a tip may lie between two centres.
        assert np.abs(coarse["boxes"] - fine["boxes"] / 2).max() <= 2
        halves = fine["image"].mean(0).reshape(side, 2, side, 2).mean((1, 3))
        alike.append(np.corrcoef(halves.ravel(), coarse["image"].mean(0).ravel())[0, 1])
    assert min(alike) > 0.75  # noise depends on the size
    assert np.mean(alike) > 0.93


def test_the_smallest_size_has_boxes_too() -> None:
    boxes = _boxes(_draw(count=60, size=16))
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_box_is_tight_around_what_is_seen_of_the_animal() -> None:
    """Seen is where the picture changes when the animal is taken away."""
    off = []
    for index in range(60):
        scene = _scene(index)
        empty = replace(scene, animal=replace(scene.animal, layers=[]))
        image, blank = (
            synthetic._paint(each, SIZE, np.random.default_rng(0))[0].astype(int)
            for each in (scene, empty)
        )
        seen = np.abs(image - blank).max(0) > 4
        columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        box = draw_image("train", index, size=SIZE, seed=0)["boxes"][0]
        off.append(np.abs(box - found).max())
    # Edges are soft; of a tail behind a trunk less than half a pixel may show on the other side.
    assert np.median(off) <= 1
    assert np.mean(np.array(off) <= 2) > 0.96


def test_boxes_are_inside_and_not_tiny(train: Any) -> None:
    boxes = _boxes(train)
    assert boxes.min() == 0
    assert boxes.max() == SIZE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 0.08 * SIZE


def test_a_constant_box_is_as_good_as_on_photographs(train: Any) -> None:
    """Oxford-IIIT pet heads: mean IoU 0.377, 24 % above one half."""
    boxes = _boxes(train)
    found = box_iou(boxes, boxes.mean(0, keepdim=True))
    assert 0.3 < found.mean() < 0.45
    assert (found > 0.5).float().mean() < 0.35


def test_places_sizes_and_shapes_vary(train: Any) -> None:
    boxes = _boxes(train) / SIZE
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    area = (width * height).sqrt()
    assert area.quantile(0.9) > 2 * area.quantile(0.1)
    ratio = width / height
    assert (ratio > 1.4).float().mean() > 0.2
    assert (ratio < 0.9).float().mean() > 0.2
    assert ((boxes[:, :2] + boxes[:, 2:]) / 2).std(0).min() > 0.08
    at_border = ((boxes == 0) | (boxes == 1)).any(1).float().mean()
    assert 0.1 < at_border < 0.6


def test_some_animals_are_hidden_in_part() -> None:
    scenes = [_scene(index) for index in range(COUNT)]
    assert 0.15 < np.mean([bool(scene.occluders) for scene in scenes]) < 0.45
    shares = []
    for scene in scenes:
        if scene.occluders:
            free = replace(scene, occluders=[])
            rng = np.random.default_rng(0)
            hidden, whole = (synthetic._paint(s, 48, rng)[1].sum() for s in (scene, free))
            shares.append(hidden / whole)
    assert min(shares) > 0.4
    assert np.mean(shares) < 0.95


def test_every_species_is_drawn() -> None:
    found = Counter(draw_body(np.random.default_rng(i))[0] for i in range(400))
    assert set(found) == set(SPECIES)
    assert min(found.values()) > 25


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("training", 0, 32, 0), "train, val, test"),
        (("train", -1, 32, 0), "index"),
        (("train", 0, 8, 0), "size"),
        (("train", 0, 32, -1), "seed"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, reason: str) -> None:
    split, index, size, seed = arguments
    with pytest.raises(ValueError, match=reason):
        draw_image(split, index, size=size, seed=seed)
