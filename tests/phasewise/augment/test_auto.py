from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.v2 import functional as tv

from phasewise.augment import auto
from phasewise.augment.auto import COLOR, GEOMETRY, MAGNITUDES, POLICY, SIGNED, Step
from phasewise.augment.color import denormalize, normalize
from phasewise.augment.draws import Draws
from phasewise.augment.pipeline import Augment

REFERENCE = v2.AutoAugment(AutoAugmentPolicy.IMAGENET)
NAMES = {
    "Posterize": "posterize",
    "Rotate": "rotate",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
    "Color": "color",
    "Contrast": "contrast",
    "Invert": "invert",
    "Sharpness": "sharpness",
    "ShearX": "shear_x",
}
"""torchvision's name -> ours."""


def _reference(image: Tensor, name: str, magnitude: float) -> Tensor:
    """torchvision's operation on one image or several."""
    theirs = next(key for key, value in NAMES.items() if value == name)
    if name == "rotate":
        magnitude = math.degrees(magnitude)
    elif name == "solarize":
        magnitude /= 255
    return REFERENCE._apply_image_or_video_transform(
        image, theirs, magnitude, InterpolationMode.BILINEAR, REFERENCE._fill
    )


@pytest.fixture
def smooth() -> Tensor:
    """uint8 (6, 3, 60, 80): blurred noise over part of the range of values."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 256, (6, 3, 60, 80), generator=generator, dtype=torch.uint8)
    return (tv.gaussian_blur(noise, [21, 21], [4.0]).float() * 3 - 250).clamp(10, 240).byte()


# The tables


def test_the_policy_is_the_published_one() -> None:
    theirs = [
        tuple((NAMES[name], p, level or 0) for name, p, level in sub)
        for sub in REFERENCE._policies  # type: ignore[attr-defined]
    ]
    assert theirs == list(POLICY)


def test_levels_mean_what_they_mean_in_torchvision() -> None:
    for theirs, name in NAMES.items():
        values, signed = REFERENCE._AUGMENTATION_SPACE[theirs]
        assert signed == (name in SIGNED)
        magnitudes = values(10, 331, 331)  # type: ignore[no-untyped-call]
        assert (magnitudes is None) == (name not in MAGNITUDES)
        if magnitudes is not None:
            unit = {"rotate": math.pi / 180, "solarize": 255}.get(name, 1)
            expected = (magnitudes * unit).tolist()
            found = [MAGNITUDES[name](level) for level in range(10)]
            assert found == pytest.approx(expected, abs=1e-4)


# Operations


@pytest.mark.parametrize("name", COLOR)
def test_colours_are_torchvisions_image_by_image(name: str, smooth: Tensor) -> None:
    levels = {level for sub in POLICY for op, _, level in sub if op == name}
    for level in levels:
        magnitude = MAGNITUDES[name](level) if name in MAGNITUDES else 0.0
        for sign in (1, -1) if name in SIGNED else (1,):
            rows = torch.tensor([1, 2, 5])
            out = auto.apply(smooth, [Step(name, sign * magnitude, rows)])
            for row in range(6):
                expected = smooth[row]
                if row in rows:
                    expected = _reference(expected, name, sign * magnitude)
                    assert level == 0 or not torch.equal(expected, smooth[row])
                assert torch.equal(out[row], expected)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("sign", [1, -1])
def test_geometry_is_torchvisions(
    name: str, sign: int, smooth: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    magnitude = sign * MAGNITUDES[name](8)
    matrix = GEOMETRY[name](torch.tensor([magnitude], dtype=torch.float64), 60, 80)
    monkeypatch.setattr(auto, "draw", lambda draws, chosen: (matrix.repeat(6, 1, 1), []))
    out = denormalize(Augment(["autoaugment"])({"image": smooth}, 0)["image"]).int()
    expected = _reference(smooth, name, magnitude).int()
    inside = (_reference(torch.full_like(smooth, 255), name, magnitude) == 255)[:, :, 2:-2, 2:-2]
    difference = (out - expected).abs()[:, :, 2:-2, 2:-2][inside]
    assert inside.float().mean() > 0.6
    assert difference.float().mean() < 0.05  # of 255
    assert (smooth.int() - expected).abs().float().mean() > 5


# Draws


def _drawn(count: int, seed: int = 0, chosen: bool = True) -> tuple[Tensor, list[Step]]:
    draws = Draws(count, 40, 56, seed)
    return auto.draw(draws, torch.full((count,), chosen))


def test_operations_are_as_frequent_as_the_policy_says() -> None:
    count = 20_000
    homography, steps = _drawn(count)
    seen = Counter[tuple[str, float]]()
    for step in steps:
        seen[step.name, step.magnitude] += len(step.rows)
    expected = Counter[tuple[str, float]]()
    turned = sheared = 0.0
    for name, p, level in (operation for sub in POLICY for operation in sub):
        share = count * p / len(POLICY)
        if name in GEOMETRY:
            turned += share * (name == "rotate")
            sheared += share * (name == "shear_x")
            continue
        magnitude = MAGNITUDES[name](level) if name in MAGNITUDES else 0.0
        for sign in (1, -1) if name in SIGNED else (1,):
            expected[name, sign * magnitude] += share / (2 if name in SIGNED else 1)
    assert set(seen) == {key for key, share in expected.items() if share}
    for key, share in expected.items():
        assert abs(seen[key] - share) < 5 * math.sqrt(share) + 1, key
    rotated = homography[:, 1, 0] != 0
    leaning = (homography[:, 0, 1] != 0) & ~rotated
    assert abs(int(rotated.sum()) - turned) < 5 * math.sqrt(turned)
    assert abs(int(leaning.sum()) - sheared) < 5 * math.sqrt(sheared)
    for group in (homography[rotated, 1, 0], homography[leaning, 0, 1]):
        assert abs((group > 0).float().mean() - 0.5) < 0.06


def test_an_image_gets_both_operations_of_one_sub_policy() -> None:
    """Not one of this and one of that: the pairs that occur are those of the table."""
    count = 2000
    homography, steps = _drawn(count)
    found: list[set[str]] = [set() for _ in range(count)]
    for step in steps:
        for row in step.rows.tolist():
            found[row].add(step.name)
    for row in range(count):
        if homography[row, 1, 0] != 0:
            found[row].add("rotate")
        elif homography[row, 0, 1] != 0:
            found[row].add("shear_x")
    pairs = [{sub[0][0], sub[1][0]} for sub in POLICY]
    assert all(any(names <= pair for pair in pairs) for names in found)
    assert sum(len(names) == 2 for names in found) > count / 4


def test_colours_are_applied_in_the_order_of_the_sub_policy(smooth: Tensor) -> None:
    """Of solarize and equalize, both orders occur."""
    steps = _drawn(4000, seed=1)[1]
    order: dict[int, list[str]] = {}
    for step in steps:
        for row in step.rows.tolist():
            order.setdefault(row, []).append(step.name)
    both = {tuple(names) for names in order.values() if set(names) == {"solarize", "equalize"}}
    assert both == {("solarize", "equalize"), ("equalize", "solarize")}
    rows = torch.tensor([0])
    out = auto.apply(smooth, [Step("invert", 0, rows), Step("solarize", 100.0, rows)])
    assert torch.equal(out[0], tv.solarize(tv.invert(smooth[0]), 100))


def test_images_that_are_not_chosen_keep_their_looks() -> None:
    homography, steps = _drawn(50, chosen=False)
    assert steps == []
    assert torch.equal(homography, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    chosen = torch.arange(50) % 2 == 0
    draws = Draws(50, 40, 56, 0)
    homography, steps = auto.draw(draws, chosen)
    assert {int(row) % 2 for step in steps for row in step.rows} == {0}
    # The others' draws do not depend on it.
    whole, _ = _drawn(50)
    assert torch.equal(homography[chosen], whole[chosen])


def test_entries_before_and_after_draw_as_they_did(photos: Tensor) -> None:
    batch = {"image": photos, "mask": photos[:, 0]}
    with_it = Augment(["flip", "rotate", {"autoaugment": {"p": 0}}])(batch, 3)
    without = Augment(["flip", "rotate"])(batch, 3)
    assert torch.equal(with_it["mask"], without["mask"])
    assert torch.equal(with_it["image"], without["image"])


# In the pipeline


def test_the_pipeline_does_what_was_drawn(smooth: Tensor) -> None:
    images = smooth.repeat(8, 1, 1, 1)
    out = Augment(["autoaugment"])({"image": images}, seed=5)["image"]
    draws = Draws(48, 60, 80, 5)
    homography, steps = auto.draw(draws, draws.chosen(1))
    expected = images.clone()
    for step in steps:
        for row in step.rows.tolist():
            expected[row] = _reference(expected[row], step.name, step.magnitude)
    still = (homography == torch.eye(3, dtype=torch.float64)).flatten(1).all(1)
    assert 10 < still.sum() < 48
    torch.testing.assert_close(out[still], normalize(expected[still]), atol=1e-4, rtol=0)
    gap = (out - normalize(expected)).abs().flatten(1).amax(1)
    assert (gap[~still] > 0.1).all()


def test_masks_and_boxes_follow(scene: dict[str, Tensor]) -> None:
    scene["image"] = scene["image"].clamp(max=100)  # white would be solarized to black
    out = Augment(["autoaugment"])(scene, seed=2)
    moved = [i for i in range(16) if not torch.equal(out["mask"][i], scene["mask"][i])]
    assert 2 <= len(moved) < 16
    for i in range(16):
        region = out["mask"][i] == 1
        y, x = region.nonzero().unbind(1)
        extent = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        assert (out["boxes"][i, 0] - extent).abs().max() <= 1.5
        # The image's two colours lie where the mask says.
        image = out["image"][i].mean(0)
        core = image[region].median() - image[out["mask"][i] == 0].median()
        assert abs(core) > 0.3  # of contrast, a fifth is left at least
        assert (out["mask"][i] == 255).any() == (i in moved)
    assert out["labels"].tolist() == scene["labels"].tolist()


def test_other_colours_come_on_top(smooth: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrast takes the mean of the image that AutoAugment left."""
    augment = Augment(["autoaugment", {"contrast": {"amount": 0.5}}])
    eye = torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
    steps = [Step("invert", 0.0, torch.arange(6))]
    monkeypatch.setattr(auto, "draw", lambda draws, chosen: (eye, steps))
    out = augment({"image": smooth}, 1)["image"]
    steps.clear()
    torch.testing.assert_close(out, augment({"image": ~smooth}, 1)["image"])
    assert not torch.allclose(out, augment({"image": smooth}, 1)["image"])
