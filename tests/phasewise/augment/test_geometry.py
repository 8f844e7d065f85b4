from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as tv

from phasewise.augment.color import denormalize, normalize
from phasewise.augment.draws import Draws
from phasewise.augment.geometry import GEOMETRY, MIN_VISIBLE, VOID, Warp
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import AUGMENTATIONS

CPU = torch.device("cpu")


def always(name: str, **values: float) -> dict[str, dict[str, float]]:
    return {name: {"p": 1, **values}}


def draw(name: str, count: int, height: int = 40, width: int = 56) -> Tensor:
    values = {key: p.default for key, p in AUGMENTATIONS[name].parameters.items()}
    return GEOMETRY[name](Draws(count, height, width, 7), values)


def moved(matrix: Tensor, points: list[list[float]]) -> Tensor:
    """Points (N, 2) through one homography, the textbook way."""
    homogeneous = torch.tensor([[x, y, 1] for x, y in points], dtype=torch.float64) @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def extent(region: Tensor) -> Tensor:
    """x1, y1, x2, y2 of the true pixels of (H, W)."""
    y, x = region.nonzero().unbind(1)
    return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


@pytest.mark.parametrize(("name", "dim"), [("flip", -1), ("vflip", -2)])
def test_flip_is_exact(name: str, dim: int, photos: Tensor) -> None:
    batch = {"image": photos, "mask": photos[:, 0], "boxes": torch.tensor([[[1.0, 2, 11, 5]]] * 8)}
    out = Augment([always(name)])({**batch, "labels": torch.ones(8, 1)}, seed=0)
    assert torch.equal(out["image"], normalize(photos.flip(dim)))
    assert torch.equal(out["mask"], photos[:, 0].flip(dim))
    box = [45.0, 2, 55, 5] if name == "flip" else [1.0, 35, 11, 38]
    assert out["boxes"].tolist() == [[box]] * 8


def test_two_flips_in_one_batch(photos: Tensor) -> None:
    variants = torch.stack([normalize(photos).flip(dims) for dims in ([], [-1], [-2], [-1, -2])])
    seen = torch.zeros(4, 8, dtype=torch.bool)
    for seed in range(4):
        out = Augment(["flip", "vflip"])({"image": photos}, seed)["image"]
        equal = (variants == out).flatten(2).all(2)
        assert equal.sum(0).tolist() == [1] * 8
        seen |= equal
    assert seen.any(1).all(), "all four variants should occur"


@pytest.mark.parametrize("names", [*([n] for n in GEOMETRY), ["flip", "rotate", "perspective"]])
def test_image_mask_and_boxes_move_together(names: list[str], scene: dict[str, Tensor]) -> None:
    out = Augment([always(name) for name in names])(scene, seed=4)
    assert not torch.equal(out["boxes"], scene["boxes"])
    assert (out["labels"][:, 0] == 3).all()
    for i in range(16):
        white = denormalize(out["image"][i]).amin(0) > 127
        for region in (out["mask"][i] == 1, white):
            iou = box_iou(extent(region)[None], out["boxes"][i, :1])
            assert iou > 0.95, (i, iou)


def test_the_second_entry_comes_after_the_first(scene: dict[str, Tensor]) -> None:
    draws = Draws(16, 240, 320, 5)
    matrix = torch.eye(3, dtype=torch.float64).expand(16, 3, 3)
    for name in ("rotate", "perspective"):
        draws.chosen(1)
        values = {key: p.default for key, p in AUGMENTATIONS[name].parameters.items()}
        matrix = GEOMETRY[name](draws, values) @ matrix
    out = Augment([always("rotate"), always("perspective")])(scene, seed=5)["boxes"]
    for i in range(16):
        x1, y1, x2, y2 = scene["boxes"][i, 0].tolist()
        corners = moved(matrix[i], [[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        hull = torch.cat([corners.amin(0), corners.amax(0)]).float()
        torch.testing.assert_close(out[i, 0], hull, atol=1e-3, rtol=0)


def test_warp_equals_torchvision_perspective(photos: Tensor) -> None:
    image = tv.gaussian_blur(normalize(photos), 5)
    matrix = draw("perspective", 8)
    ours = Warp(matrix, 40, 56, CPU).image(image.clone())
    corners = [[0.0, 0.0], [56.0, 0.0], [56.0, 40.0], [0.0, 40.0]]
    for i in range(8):
        # torchvision takes its points in the same edge coordinates, whatever its own default is
        ends = moved(matrix[i], corners).tolist()
        reference = tv.perspective(image[i], corners, ends)
        covered = tv.perspective(torch.ones(1, 40, 56), corners, ends)[0] > 0.9999
        assert covered.float().mean() > 0.6
        difference = (ours[i] - reference).abs().amax(0)
        assert difference[covered].max() < 2e-3


def test_rotation_equals_torchvision(photos: Tensor) -> None:
    image = tv.gaussian_blur(normalize(photos), 5)
    matrix = draw("rotate", 8)
    ours = Warp(matrix, 40, 56, CPU).image(image.clone())
    for i in range(8):
        degrees = torch.rad2deg(torch.atan2(matrix[i, 0, 1], matrix[i, 0, 0])).item()
        bilinear = tv.InterpolationMode.BILINEAR
        reference = tv.rotate(image[i], degrees, interpolation=bilinear)
        inner = (..., slice(8, -8), slice(8, -8))
        assert (ours[i] - reference)[inner].abs().max() < 2e-3
        assert abs(degrees) <= 10


def test_translate_is_resize_then_crop_at_whole_pixels(photos: Tensor) -> None:
    matrix = draw("translate", 8)
    ours = Warp(matrix, 40, 56, CPU).image(normalize(photos))
    large = tv.resize(normalize(photos), [45, 63], antialias=False)
    offsets = -matrix[:, :2, 2]
    for i in range(8):
        left, top = offsets[i].tolist()
        assert left == int(left) and top == int(top)
        reference = tv.crop(large[i], int(top), int(left), 40, 56)
        torch.testing.assert_close(ours[i], reference, atol=2e-4, rtol=0)
    many = -draw("translate", 4000)[:, :2, 2]
    assert many.amin(0).tolist() == [0, 0] and many.amax(0).tolist() == [7, 5]


def test_whole_pixel_shift_is_exact(photos: Tensor) -> None:
    matrix = torch.eye(3, dtype=torch.float64).repeat(8, 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = 5, -3
    warp = Warp(matrix, 40, 56, CPU)
    mask, image = warp.mask(photos[:, 0]), warp.image(normalize(photos))
    assert torch.equal(mask[:, :37, 5:], photos[:, 0, 3:, :51])
    assert (mask[:, 37:] == VOID).all() and (mask[:, :, :5] == VOID).all()
    assert torch.equal(denormalize(image[..., :37, 5:]), photos[..., 3:, :51])
    assert (image[..., 37:, :] == 0).all() and (image[..., :5] == 0).all()


@pytest.mark.parametrize("name", list(GEOMETRY))
def test_a_mask_gets_no_new_value_but_void(name: str, scene: dict[str, Tensor]) -> None:
    mask = scene["mask"] * 16 + 2  # 2 and 18: a mean of the two would show
    for dtype in (torch.uint8, torch.int64):
        out = Augment([always(name)])({**scene, "mask": mask.to(dtype)}, seed=0)["mask"]
        assert out.dtype == dtype
        assert set(out.unique().tolist()) <= {2, 18, VOID}


def test_void_and_mean_colour_cover_the_same_pixels(scene: dict[str, Tensor]) -> None:
    out = Augment([always("rotate"), always("shift")])(scene, seed=0)
    outside = out["mask"] == VOID
    assert 0.02 < outside.float().mean() < 0.4
    assert torch.equal(outside, (out["image"] == 0).all(1))


@pytest.mark.parametrize(
    ("visible", "kept"), [(MIN_VISIBLE - 0.02, False), (MIN_VISIBLE + 0.02, True)]
)
def test_a_box_that_has_left_becomes_padding(visible: float, kept: bool) -> None:
    matrix = torch.eye(3, dtype=torch.float64)[None].clone()
    matrix[0, 0, 2] = 50 * (1 - visible)
    boxes, labels = torch.tensor([[[50.0, 20, 100, 60], [0, 0, 0, 0]]]), torch.tensor([[4, -1]])
    out, out_labels = Warp(matrix, 100, 100, CPU).boxes(boxes, labels)
    assert out_labels.tolist() == [[4 if kept else -1, -1]]
    expected = [100 - 50 * visible, 20, 100, 60] if kept else [0, 0, 0, 0]
    torch.testing.assert_close(out[0, 0], torch.tensor(expected, dtype=torch.float32))
    assert out[0, 1].tolist() == [0, 0, 0, 0]


def test_beyond_the_horizon_nothing_is_seen() -> None:
    matrix = torch.eye(3, dtype=torch.float64)[None].clone()
    matrix[0, 2, 0] = -1 / 50  # w = 0 at x = 50; what lies right of it would reappear mirrored
    shift = torch.eye(3, dtype=torch.float64)[None].clone()
    shift[0, :2, 2] = torch.tensor([350, 100])  # ... here
    boxes = torch.tensor([[[10.0, 10, 20, 20], [60, 10, 90, 20], [40, 10, 60, 20]]])
    for warp, left in ((Warp(matrix, 100, 100, CPU), 1), (Warp(shift @ matrix, 100, 100, CPU), -1)):
        out, labels = warp.boxes(boxes, torch.tensor([[1, 1, 1]]))
        assert labels.tolist() == [[left, -1, -1]]
        assert out.isfinite().all()
        seen = warp.image(torch.arange(1, 101.0).expand(1, 3, 100, 100).clone())
        assert 0 < seen.max() < 50 if left == 1 else (seen == 0).all()


def test_ranges_of_the_draws() -> None:
    zoom = draw("scale", 4000)
    assert 0.8 <= zoom[:, 0, 0].min() < 0.81 and 1.24 < zoom[:, 0, 0].max() <= 1.25
    assert abs((zoom[:, 0, 0] > 1).double().mean() - 0.5) < 0.05
    shift = draw("shift", 4000)[:, :2, 2]
    assert shift.abs().amax(0).tolist() == [6, 4]  # round(.1 x 56), .1 x 40
    crop = torch.linalg.inv(draw("crop", 4000))
    width, height = crop[:, 0, 0], crop[:, 1, 1]
    area, ratio = width * height, width / height
    assert 0.5 <= area.min() < 0.51 and 0.98 < area.max() <= 1
    assert 0.75 - 1e-9 <= ratio.min() < 0.8 and 1.25 < ratio.max() <= 4 / 3 + 1e-9
    corner = crop[:, :2, 2] / torch.tensor([56, 40])
    assert (corner >= 0).all() and (corner + torch.stack([width, height], 1) <= 1 + 1e-9).all()


def test_perspective_moves_each_corner_inwards() -> None:
    matrices = draw("perspective", 500)
    corners = [[0.0, 0.0], [56.0, 0.0], [56.0, 40.0], [0.0, 40.0]]
    ends = torch.stack([moved(m, corners) for m in matrices])
    inwards = (ends - torch.tensor(corners)) * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    limit = torch.tensor([0.1 * 56, 0.1 * 40])  # distortion .2 of half a side
    assert (inwards >= -1e-9).all() and (inwards <= limit + 1e-9).all()
    assert (inwards.amax((0, 1)) > 0.95 * limit).all()


def test_zooming_out_keeps_all_of_the_source_in_the_frame(scene: dict[str, Tensor]) -> None:
    entry = always("scale", zoom_min=0.5, zoom_max=0.5)
    out = Augment([entry])(scene, seed=0)
    shown = (out["mask"] != VOID).float().mean((1, 2))
    torch.testing.assert_close(shown, torch.full((16,), 0.25), atol=0.01, rtol=0)
