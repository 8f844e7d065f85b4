from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

from segmentation.synthetic import draw_image

SIZE, BEADS = 256, 109


def _draw(
    split: str = "train", count: int = 24, *, size: Any = SIZE, seed: int = 0, beads: Any = BEADS
) -> Any:
    return [draw_image(split, i, size=size, seed=seed, beads=beads) for i in range(count)]


@pytest.fixture(scope="module")
def train() -> Any:
    return _draw()


def test_shapes_and_types(train: Any) -> None:
    expected = {
        "image": ((3, SIZE, SIZE), np.uint8),
        "mask": ((SIZE, SIZE), np.uint8),
        "instances": ((SIZE, SIZE), np.int16),
    }
    for one in train:
        assert {k: (v.shape, v.dtype.type) for k, v in one.items()} == expected
        assert np.array_equal(one["mask"], one["instances"] > 0)
        assert one["instances"].min() == 0


def test_same_arguments_same_pictures(train: Any) -> None:
    again = _draw(count=5)
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(train, again, strict=False) for k in a)


def test_splits_and_seeds_share_no_picture(train: Any) -> None:
    drawn = [*train, *_draw(count=5, seed=1), *_draw("val", 5), *_draw("test", 5)]
    for key in ("image", "mask"):
        assert len({one[key].tobytes() for one in drawn}) == len(drawn)


@pytest.mark.parametrize("size", [128, 512])
def test_the_scene_is_the_same_at_every_size(train: Any, size: int) -> None:
    for one, other in zip(train[:4], _draw(count=4, size=size), strict=True):
        coarse, fine = sorted((one, other), key=lambda drawn: drawn["mask"].shape[0])
        numbers = [set(np.unique(drawn["instances"])) for drawn in (coarse, fine)]
        # At the border of the picture a sliver of a bead may hold no pixel's centre.
        assert numbers[0] <= numbers[1]
        assert len(numbers[1] - numbers[0]) <= 2
        side = coarse["mask"].shape[0]
        halves = fine["mask"].reshape(side, 2, side, 2).mean((1, 3))
        assert np.abs(halves - coarse["mask"]).mean() < 0.06
        assert abs(fine["mask"].mean() - coarse["mask"].mean()) < 0.004
        shrunk = fine["image"].mean(0).reshape(side, 2, side, 2).mean((1, 3))
        assert np.corrcoef(shrunk.ravel(), coarse["image"].mean(0).ravel())[0, 1] > 0.95


def test_smallest_and_odd_sizes() -> None:
    for size in (16, 33, 97):
        drawn = _draw(count=2, size=size)
        assert all(one["image"].shape == (3, size, size) for one in drawn)
        assert all(one["mask"].any() for one in drawn)


def test_counts_and_foreground_are_those_of_real_slides(train: Any) -> None:
    counts = [len(np.unique(one["instances"])) - 1 for one in train]
    assert np.mean(counts) == pytest.approx(BEADS, rel=0.15)  # 24 images, standard error 7 %
    assert np.std(counts) > 0.15 * BEADS
    assert np.mean([one["mask"].mean() for one in train]) == pytest.approx(0.12, abs=0.025)


def test_the_number_of_beads_is_kept_up_to_the_most(train: Any) -> None:
    from segmentation.synthetic import _draw_scene

    for beads, tolerance in ((4, 0.15), (109, 0.06), (300, 0.06)):
        count = [len(_draw_scene(np.random.default_rng(i), beads).beads) for i in range(60)]
        error = tolerance + 3 * np.std(count) / np.sqrt(60) / beads
        assert np.mean(count) == pytest.approx(beads, rel=error)


def test_beads_are_rigid_and_many_touch() -> None:
    from segmentation.synthetic import _draw_scene

    touching = total = 0
    for seed in range(10):
        scene = _draw_scene(np.random.default_rng(seed), BEADS)
        places = np.array([(bead.x, bead.y, bead.radius) for bead in scene.beads])
        away = np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1))
        share = away / (places[:, None, 2] + places[None, :, 2])
        np.fill_diagonal(share, np.inf)
        assert share.min() >= 0.97 - 1e-9
        touching += (share.min(1) < 1.03).sum()
        total += len(places)
        for disc in scene.dirt:
            if disc.radius > places[:, 2].max() * 1.4:  # a bubble
                gaps = np.hypot(places[:, 0] - disc.x, places[:, 1] - disc.y)
                assert (gaps > 0.9 * disc.radius).all()
    assert 0.25 < touching / total < 0.9


def test_every_bead_can_be_seen_above_the_noise() -> None:
    """Mean difference of the bead's inner half from the ring of ground around it, or its spread."""
    hidden = total = 0
    for one in _draw(count=6, size=512):
        grey = one["image"].mean(0)
        for region in regionprops(one["instances"]):
            if region.area < 200:
                continue
            rows, columns = (slice(max(0, int(c) - 14), int(c) + 15) for c in region.centroid)
            ground = grey[rows, columns][one["instances"][rows, columns] == 0]
            if len(ground) < 100:
                continue
            inner = grey[one["instances"] == region.label]
            hidden += max(abs(inner.mean() - ground.mean()), inner.std()) < 3
            total += 1
    assert total > 300
    assert hidden / total < 0.02


def test_instances_are_round_and_of_the_size_of_beads() -> None:
    areas = []
    for one in _draw(count=3, size=512):
        for region in regionprops(one["instances"]):
            rows, columns = region.coords.min(0), region.coords.max(0)
            if min(rows) == 0 or max(columns) == 511:
                continue  # cut off at the border
            areas.append(region.area)
            assert region.eccentricity < 0.5
            assert region.solidity > 0.9
    assert np.sqrt(np.median(areas) / np.pi) == pytest.approx(9.6, abs=1.2)


def test_a_threshold_does_not_solve_it(train: Any) -> None:
    for bright in (True, False):
        both = either = 0
        for one in train:
            grey, mask = one["image"].mean(0), one["mask"] == 1
            found = (grey > threshold_otsu(grey)) == bright
            both += (found & mask).sum()
            either += (found | mask).sum()
        assert both / either < 0.45
    everything = np.mean([one["mask"].mean() for one in train])
    assert everything < 0.16


def test_pictures_are_nearly_grey_and_rarely_clipped(train: Any) -> None:
    images = np.stack([one["image"] for one in train]).astype(float)
    means = images.mean((2, 3))
    assert np.ptp(means, axis=1).max() < 0.15 * means.mean()
    assert np.ptp(means, axis=1).max() > 1
    assert (images == 255).mean() < 0.05
    assert images.mean((1, 2, 3)).min() > 60
    light = [
        np.ptp(image[:, ::16, ::16].mean(0)[mask[::16, ::16] == 0])
        for image, mask in zip(images, (one["mask"] for one in train), strict=True)
    ]
    assert np.median(light) > 15


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split": "training"}, "train, val, test"),
        ({"index": -1}, "index"),
        ({"size": 8}, "size"),
        ({"seed": -1}, "seed"),
        ({"beads": 0}, "beads"),
        ({"beads": 301}, "beads"),
    ],
)
def test_wrong_arguments_are_refused(change: Any, reason: str) -> None:
    settings = {"split": "train", "index": 0, "size": 32, "seed": 0, "beads": 9} | change
    with pytest.raises(ValueError, match=reason):
        draw_image(settings.pop("split"), settings.pop("index"), **settings)
