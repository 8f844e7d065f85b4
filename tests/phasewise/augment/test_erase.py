from __future__ import annotations

import torch
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.augment.draws import Draws
from phasewise.augment.erase import ERASE, fill
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import AUGMENTATIONS


def holes(name: str, height: int, width: int, **values: float) -> Tensor:
    defaults = {key: p.default for key, p in AUGMENTATIONS[name].parameters.items()}
    return ERASE[name](Draws(4000, height, width, 3), {**defaults, **values})


def test_erased_area_and_ratio_are_in_range() -> None:
    for height, width in ((100, 100), (160, 80)):
        top, left, bottom, right = holes("erase", height, width)[:, 0].unbind(1)
        assert (top >= 0).all() and (left >= 0).all()
        assert (bottom <= height).all() and (right <= width).all()
        h, w = (bottom - top).double(), (right - left).double()
        area = h * w / (height * width)
        assert 0.018 < area.min() < 0.03 and 0.38 < area.max() < 0.41
        assert abs(area.mean() - 0.21) < 0.01
        # rounding a side of n pixels moves the ratio by up to .5 / n on either side
        slack = 1 + 0.5 / h + 0.5 / w + 0.01
        assert (w / h >= 0.3 / slack).all() and (w / h <= 3.33 * slack).all()
        assert (w / h).min() < 0.4 and (w / h).max() > 1.9


def test_a_whole_image_can_be_erased() -> None:
    top, left, bottom, right = holes("erase", 20, 200, area_min=1, area_max=1)[:, 0].unbind(1)
    assert top.unique().tolist() == left.unique().tolist() == [0]
    assert bottom.unique().tolist() == [20] and right.unique().tolist() == [200]


def test_cutout_squares() -> None:
    squares = holes("cutout", 80, 60, holes=3)
    assert squares.shape == (4000, 3, 4)
    assert ((squares[..., 2:] - squares[..., :2]) == 15).all()
    centre = squares[..., :2] + 7
    assert centre.amin((0, 1)).tolist() == [0, 0]
    assert centre.amax((0, 1)).tolist() == [79, 59]


def test_fill_zeroes_rectangles_and_nothing_else(photos: Tensor) -> None:
    image = normalize(photos) + 100
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(-10, 50, (8, 3, 4), generator=generator)
    corners[0, :2] = torch.tensor([[5, 5, 20, 20], [10, 10, 30, 40]])  # overlap
    expected = image.clone()
    for i in range(8):
        for top, left, bottom, right in corners[i].tolist():
            if bottom > top and right > left:
                expected[i, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
    assert torch.equal(fill(image.clone(), corners), expected)


def test_erasing_hides_half_the_images_and_keeps_the_truth(scene: dict[str, Tensor]) -> None:
    white = torch.full((2000, 3, 8, 8), 255, dtype=torch.uint8)
    erased = (Augment(["erase"])({"image": white}, seed=0)["image"] == 0).flatten(1).any(1)
    assert abs(erased.float().mean() - 0.5) < 0.05
    out = Augment(["erase", "cutout"])(scene, seed=0)
    assert all(torch.equal(out[key], scene[key]) for key in ("mask", "boxes", "labels"))
