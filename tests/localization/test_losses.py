from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from localization.losses import TERMS, LocalizationLoss

SINGLE = ("smooth_l1", "l1", "mse", "giou", "ciou")


def make(name: str, **settings: float) -> LocalizationLoss:
    return LocalizationLoss(name, **{"beta": 0.1, "box_weight": 5.0, "iou_weight": 2.0, **settings})


def boxes(count: int, seed: int = 0, least: float = 0.02) -> Tensor:
    """Random boxes, of all sizes above ``least``."""
    generator = torch.Generator().manual_seed(seed)
    size = least + (0.9 - least) * torch.rand(count, 2, generator=generator)
    low = (1 - size) * torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + size], 1)


def every(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def value(
    name: str, found: Tensor, target: Tensor, valid: Tensor | None = None, **more: Any
) -> float:
    valid = every(len(found)) if valid is None else valid
    (term,) = make(name, **more)(found, target, valid).values()
    return term.item()


def gradient(name: str, found: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    leaf = found.clone().requires_grad_()
    (term,) = make(name)(leaf, target, valid).values()
    return torch.autograd.grad(term, leaf)[0]


def ciou(a: list[float], b: list[float]) -> float:
    """Zheng et al. 2020, eq. 9 to 11, of one pair."""
    iou = box_iou(torch.tensor([a]).double(), torch.tensor([b]).double()).item()
    (wa, ha), (wb, hb) = ((x[2] - x[0], x[3] - x[1]) for x in (a, b))
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    apart = sum(((a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2) ** 2 for i in (0, 1))
    around = sum((max(a[i + 2], b[i + 2]) - min(a[i], b[i])) ** 2 for i in (0, 1))
    return 1 - iou + apart / around + (v / (1 - iou + v) * v if v else 0.0)


# --- values -----------------------------------------------------------------------------------


def test_coordinates_by_hand() -> None:
    found = torch.tensor([[0.1, 0.2, 0.5, 0.6]])
    target = torch.tensor([[0.15, 0.2, 0.7, 0.6]])
    assert value("l1", found, target) == pytest.approx((0.05 + 0.2) / 4)
    assert value("mse", found, target) == pytest.approx((0.05**2 + 0.2**2) / 4)
    # .05 is below beta, .2 above it.
    assert value("smooth_l1", found, target) == pytest.approx((0.05**2 / 0.2 + 0.2 - 0.05) / 4)
    assert value("smooth_l1", found, target, beta=1.0) == pytest.approx((0.05**2 + 0.2**2) / 8)


@pytest.mark.parametrize("name", TERMS)
def test_raw_coordinates_are_for_the_terms_of_coordinates(name: str) -> None:
    """The others look at the boxes; where nothing is valid, neither counts."""
    loss, found, target, valid = make(name), boxes(5, 1), boxes(5, 2), every(5)
    raw = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    target[0], valid[0] = torch.nan, False
    raw.requires_grad_()
    terms = loss(found, target, valid, raw)
    errors = (raw[1:] - target[1:]).abs().detach()
    by_hand = {
        "l1": errors,
        "mse": errors**2,
        "smooth_l1": torch.where(errors < 0.1, errors**2 / 0.2, errors - 0.05),
    }
    for term, number in terms.items():
        if term in by_hand:
            torch.testing.assert_close(number, by_hand[term].mean())
            (slope,) = torch.autograd.grad(number, raw, retain_graph=True)
            assert slope[1:].all()
            assert not slope[0].any()
        else:
            assert number.item() == value(term, found[1:], target[1:], every(4))


@pytest.mark.parametrize("shrink", [1.0, 0.02])
def test_overlap_against_references(shrink: float) -> None:
    """Also for boxes of a hundredth of the side, where torchvision's 1e-7 would matter."""
    found, target = shrink * boxes(50, 1, 0.1), shrink * boxes(50, 2, 0.1)
    giou = 1 - generalized_box_iou(found.double(), target.double()).diagonal().mean()
    assert value("giou", found, target) == pytest.approx(giou.item(), rel=1e-5)
    pairs = zip(found.tolist(), target.tolist(), strict=True)
    expected = sum(ciou(a, b) for a, b in pairs) / 50
    assert value("ciou", found, target) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", TERMS)
def test_terms_and_weights(name: str) -> None:
    loss, found, target = make(name), boxes(5, 1), boxes(5, 2)
    terms = loss(found, target, every(5))
    assert tuple(terms) == loss.names == tuple(loss.weights())
    for term in loss.names:
        assert terms[term].shape == ()
        assert terms[term].item() == value(term, found, target)
    if len(loss.names) == 1:
        assert loss.weights() == {name: 1.0}
    else:
        assert name == "_".join(loss.names)
        assert list(loss.weights().values()) == [5.0, 2.0]


def test_half_precision_is_left_at_the_door() -> None:
    found, target = boxes(5, 1).bfloat16(), boxes(5, 2).bfloat16()
    for name in SINGLE:
        (term,) = make(name)(found, target, every(5)).values()
        assert term.dtype == torch.float32
        assert term.item() == value(name, found.float(), target.float())


# --- what counts ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -7.0, math.nan, math.inf])
@pytest.mark.parametrize("name", SINGLE)
def test_images_without_a_box_count_for_nothing(name: str, bad: float) -> None:
    found, target = boxes(6, 1), boxes(6, 2)
    valid = torch.tensor([True, False, True, True, False, False])
    target[~valid] = bad
    assert value(name, found, target, valid) == pytest.approx(
        value(name, found[valid], target[valid]), rel=1e-6
    )
    slope = gradient(name, found, target, valid)
    assert (slope[~valid] == 0).all()
    wanted = gradient(name, found[valid], target[valid], every(3))
    torch.testing.assert_close(slope[valid], wanted)


@pytest.mark.parametrize("name", SINGLE)
def test_no_box_at_all(name: str) -> None:
    for count in (3, 0):
        found, none = boxes(count), torch.zeros(count, dtype=torch.bool)
        assert value(name, found, torch.full((count, 4), math.nan), none) == 0
        assert (gradient(name, found, torch.zeros(count, 4), none) == 0).all()


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_equal_boxes_cost_nothing(name: str) -> None:
    found = torch.cat([boxes(50), torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 0.001 * boxes(9, 3, 0.9)])
    assert value(name, found, found.clone()) == pytest.approx(0, abs=1e-5)
    assert gradient(name, found, found.clone(), every(60)).isfinite().all()


@pytest.mark.parametrize("name", SINGLE)
def test_degenerate_boxes_have_finite_gradients(name: str) -> None:
    point, line = [0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.8, 0.5]
    inverted, corner = [0.6, 0.6, 0.4, 0.4], [1.0, 1.0, 1.0, 1.0]
    for target in (point, line, inverted, corner):
        for found in ([0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.501, 0.501], [0.999, 0.999, 1.0, 1.0]):
            arguments = (torch.tensor([found]), torch.tensor([target]))
            assert math.isfinite(value(name, *arguments))
            slope = gradient(name, *arguments, every(1))
            assert slope.isfinite().all()
            assert slope.abs().max() < 1e4


@pytest.mark.parametrize("name", ["giou", "ciou"])
def test_boxes_apart_are_drawn_together(name: str) -> None:
    """Where the IoU alone has no gradient."""
    found, target = torch.tensor([[0.1, 0.1, 0.2, 0.2]]), torch.tensor([[0.7, 0.7, 0.8, 0.8]])
    moved = found - 1e-3 * gradient(name, found, target, every(1))
    assert value(name, moved, target) < value(name, found, target)
    assert (moved[:, 2:] > found[:, 2:]).all()


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "iou"}, "one of smooth_l1, l1"),
        ({"beta": 0.0}, "beta must be > 0"),
        ({"beta": math.nan}, "beta must be > 0"),
        ({"box_weight": -1.0}, "box_weight must be >= 0"),
        ({"iou_weight": math.inf}, "iou_weight must be >= 0"),
        ({"box_weight": 0.0, "iou_weight": 0.0}, "no error would cost"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"name": "smooth_l1", **settings})


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 4\)"):
        make("l1")(boxes(3), boxes(2), every(3))
    with pytest.raises(ValueError, match=r"valid \(B,\)"):
        make("l1")(boxes(3), boxes(3), every(2))
