from __future__ import annotations

import cmath
import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from phasewise.augment import color
from phasewise.augment.color import MEAN, STD, denormalize, normalize, recolor
from phasewise.augment.draws import Draws
from phasewise.augment.pipeline import Augment


def reference(image: Tensor) -> Tensor:
    """float [0, 1] -> normalised, by torchvision."""
    return tv.normalize(image, list(MEAN), list(STD))


def unit(image: Tensor) -> Tensor:
    """Normalised -> float [0, 1]."""
    return image * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


def per_image(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def test_normalize_is_torchvisions(photos: Tensor) -> None:
    torch.testing.assert_close(normalize(photos), reference(photos / 255), atol=1e-5, rtol=0)
    assert torch.equal(normalize(photos)[0], normalize(photos[0]))


def test_denormalize_inverts_normalize() -> None:
    every = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(denormalize(normalize(every)), every)
    assert denormalize(torch.full((3, 1, 1), 99.0)).unique().tolist() == [255]


def test_no_names_only_normalise(photos: Tensor) -> None:
    assert torch.equal(Augment([])({"image": photos}, seed=0)["image"], normalize(photos))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_one_operation_equals_torchvisions(name: str, photos: Tensor) -> None:
    factors = [0.3, 0.8, 1.0, 1.1, 1.7, 0.0, 0.95, 2.0]
    ours = recolor(photos, getattr(color, name)(per_image(factors)))
    adjust = getattr(tv, f"adjust_{name}")
    theirs = torch.stack([adjust(p / 255, f) for p, f in zip(photos, factors, strict=True)])
    torch.testing.assert_close(ours, reference(theirs), atol=2e-5, rtol=0)


def test_a_chain_equals_torchvisions_where_nothing_is_clamped(photos: Tensor) -> None:
    photos = photos // 4 + 96  # 96 .. 159
    steps = [("brightness", 1.2), ("contrast", 0.7), ("saturation", 1.3), ("contrast", 1.2)]
    steps += [("brightness", 0.8)]
    matrix = torch.eye(7, dtype=torch.float64).expand(8, 7, 7)
    theirs = photos / 255
    for name, factor in steps:
        matrix = getattr(color, name)(per_image([factor] * 8)) @ matrix
        theirs = getattr(tv, f"adjust_{name}")(theirs, factor)
    torch.testing.assert_close(recolor(photos, matrix), reference(theirs), atol=5e-5, rtol=0)


@pytest.mark.parametrize("turn", [-0.1, -0.03, 0.03, 0.1])
def test_hue_turns_the_chroma_plane_of_yiq(turn: float) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(80, 176, (1, 3, 8, 8), generator=generator, dtype=torch.uint8)
    matrix = color.hue(torch.tensor([turn], dtype=torch.float64))
    ours = unit(recolor(image, matrix))[0].flatten(1).T
    hues = []
    for before, after in zip((image[0] / 255).flatten(1).T.tolist(), ours.tolist(), strict=True):
        y, i, q = colorsys.rgb_to_yiq(*before)
        chroma = complex(i, q) * cmath.exp(-2j * cmath.pi * turn)
        # colorsys rounds its coefficients to two digits
        assert colorsys.yiq_to_rgb(y, chroma.real, chroma.imag) == pytest.approx(after, abs=0.01)
        change = colorsys.rgb_to_hsv(*after)[0] - colorsys.rgb_to_hsv(*before)[0]
        hues.append((change + 0.5) % 1 - 0.5)
    # torchvision adds `turn` to the hue of HSV
    assert sum(hues) / len(hues) == pytest.approx(turn, rel=0.2)


def test_hue_keeps_grey_and_adds_up() -> None:
    turns = torch.tensor([0.1, 0.25, 0.35], dtype=torch.float64)
    first, second, both = color.hue(turns)
    torch.testing.assert_close(second @ first, both, atol=1e-9, rtol=0)
    grey = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1], dtype=torch.float64)
    torch.testing.assert_close(both @ grey, grey, atol=1e-3, rtol=0)


def test_lighting_equals_the_formula(photos: Tensor) -> None:
    photos = photos // 2 + 64
    alpha = np.random.default_rng(0).normal(0, 0.1, (8, 3))
    ours = recolor(photos, color.lighting(torch.from_numpy(alpha)))
    vectors = [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]]
    for i in range(8):
        change = sum(
            alpha[i, k] * value * np.array(vectors[k])
            for k, value in enumerate([0.2175, 0.0188, 0.0045])
        )
        theirs = photos[i] / 255 + torch.from_numpy(change).float().view(3, 1, 1)
        torch.testing.assert_close(ours[i], reference(theirs), atol=2e-5, rtol=0)


def test_the_eigenvectors_are_orthonormal() -> None:
    vectors = torch.tensor(color.EIGENVECTORS)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), atol=1e-3, rtol=0)


def test_values_stay_in_the_range_of_an_image(photos: Tensor) -> None:
    out = recolor(photos, color.brightness(per_image([2.0] * 8)))
    highest = normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    torch.testing.assert_close(out.amax((0, 2, 3)), highest.flatten(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(color.COLOR))
def test_colour_touches_neither_mask_nor_boxes(name: str, scene: dict[str, Tensor]) -> None:
    out = Augment([{name: {"p": 1}}])({**scene, "image": scene["image"] // 2 + 20}, seed=0)
    assert out["mask"] is scene["mask"] and out["boxes"] is scene["boxes"]
    # per image: white boxes on black come out differently bright
    if name not in ("hue", "saturation"):
        assert len(out["image"].amax((1, 2, 3)).unique()) == 16


def test_jitter_draws_both_factors_in_their_ranges() -> None:
    flat = torch.zeros(2000, 3, 2, 2, dtype=torch.uint8)
    flat[..., 0], flat[..., 1] = 60, 120
    out = Augment(["color_jitter"])({"image": flat}, seed=0)["image"]
    values = unit(out) * 255
    brightness = values.mean((1, 2, 3)) / 90
    contrast = (values[..., 1] - values[..., 0]).mean((1, 2)) / 60 / brightness
    for factor, amount in ((brightness, 0.2), (contrast, 0.15)):
        assert 1 - amount - 1e-3 < factor.min() < 1 - 0.95 * amount
        assert 1 + 0.95 * amount < factor.max() < 1 + amount + 1e-3


def test_jitter_of_all_four_is_the_product_of_its_parts(photos: Tensor) -> None:
    """Drawn in the order brightness, contrast, saturation, hue; the first two as without them."""
    amounts = {"brightness": 0.3, "contrast": 0.2, "saturation": 0.4, "hue": 0.1}
    found = color.COLOR["color_jitter"](Draws(8, 4, 4, seed=5), amounts)
    draws = Draws(8, 4, 4, seed=5)
    factors = [draws.uniform(1 - a, 1 + a, 1, 1) for a in (0.3, 0.2, 0.4)]
    parts = [color.brightness(factors[0]), color.contrast(factors[1]), color.saturation(factors[2])]
    parts.append(color.hue(draws.uniform(-0.1, 0.1)))
    one_by_one = torch.eye(7, dtype=torch.float64).expand(8, 7, 7)
    for part in parts:
        one_by_one = part @ one_by_one
    torch.testing.assert_close(found, one_by_one)
    two = {**amounts, "saturation": 0.0, "hue": 0.0}
    plain = color.COLOR["color_jitter"](Draws(8, 4, 4, seed=5), two)
    torch.testing.assert_close(plain, parts[1] @ parts[0])
    assert (recolor(photos, found) - recolor(photos, plain)).abs().max() > 0.01
