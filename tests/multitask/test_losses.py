from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor

from multitask.class_weights import class_balance
from multitask.losses import (
    FcosLoss,
    SegmentationLoss,
)

KINDS = ["cross_entropy", "dice", "focal", "ce_dice"]
CLASSES = 4


def random_masks(seed: int = 0, void: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, CLASSES, 6, 5, generator=generator)
    mask = torch.randint(0, CLASSES, (3, 6, 5), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < void] = 255
    return logits, mask.to(torch.uint8)


# --- segmentation -----------------------------------------------------------------------------


def test_cross_entropy_of_one_pixel_by_hand() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0]).view(1, 3, 1, 1)
    expected = math.log(math.exp(2) + 1 + math.exp(-1)) - 0
    loss = SegmentationLoss("cross_entropy", num_classes=3)
    assert loss(logits, torch.tensor([[[1]]])) == pytest.approx(expected)


def test_focal_of_two_pixels_by_hand() -> None:
    # Probabilities .8 and .5 of the true class, a third pixel is void.
    logits = torch.tensor([[0.8, 0.5, 0.1], [0.2, 0.5, 0.9]]).log().view(1, 2, 1, 3)
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    for gamma in (0.0, 0.5, 2.0):
        expected = -(0.2**gamma * math.log(0.8) + 0.5**gamma * math.log(0.5)) / 2
        loss = SegmentationLoss("focal", num_classes=2, focal_gamma=gamma)
        assert loss(logits, mask) == pytest.approx(expected)


def test_dice_by_hand_counts_only_the_classes_that_are_there() -> None:
    # Class 0: p = .8 where true, .4 where false; class 2 and the void pixel take no part.
    probabilities = torch.tensor([[0.8, 0.4, 0.3], [0.1, 0.5, 0.3], [0.1, 0.1, 0.4]])
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    dice = [2 * 0.8 / (0.8 + 0.4 + 1), 2 * 0.5 / (0.1 + 0.5 + 1)]
    loss = SegmentationLoss("dice", num_classes=3)
    got = loss(probabilities.log().view(1, 3, 1, 3), mask)
    assert got == pytest.approx(1 - sum(dice) / 2)


def test_dice_equals_smp_where_all_classes_occur() -> None:
    logits, mask = random_masks()
    expected = DiceLoss("multiclass", ignore_index=255)(logits, mask.long())
    assert SegmentationLoss("dice", num_classes=CLASSES)(logits, mask) == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
def test_cross_entropy_equals_torch(smoothing: float, weights: Any) -> None:
    logits, mask = random_masks()
    weights = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(
        logits, mask.long(), weights, ignore_index=255, label_smoothing=smoothing
    )
    loss = SegmentationLoss(
        "cross_entropy", num_classes=CLASSES, class_weights=weights, label_smoothing=smoothing
    )
    assert loss(logits, mask) == pytest.approx(expected.item(), rel=1e-5)


def test_ce_dice_is_the_sum() -> None:
    logits, mask = random_masks()
    ce, dice, both = (
        SegmentationLoss(kind, num_classes=CLASSES)(logits, mask)
        for kind in ("cross_entropy", "dice", "ce_dice")
    )
    assert both == pytest.approx((ce + dice).item())


@pytest.mark.parametrize("kind", KINDS)
def test_void_pixels_change_nothing(kind: Any) -> None:
    logits, mask = random_masks(void=0.4)
    loss = SegmentationLoss(kind, num_classes=CLASSES)
    changed = torch.where((mask == 255)[:, None], logits + 7, logits).requires_grad_()
    value = loss(changed, mask)
    assert value.item() == pytest.approx(loss(logits, mask).item())
    (gradient,) = torch.autograd.grad(value, changed)
    void = (mask == 255)[:, None].expand_as(gradient)
    assert (gradient[void] == 0).all()
    assert gradient[~void].abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_without_labels_is_zero(kind: Any, weighted: bool) -> None:
    weights = torch.ones(CLASSES) if weighted else None
    loss = SegmentationLoss(
        kind, num_classes=CLASSES, class_weights=weights, label_smoothing=0.1, focal_gamma=0.5
    )
    logits = torch.randn(2, CLASSES, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits(kind: Any, dtype: Any) -> None:
    logits, mask = random_masks()
    logits = (10 * logits).to(dtype)
    loss = SegmentationLoss(kind, num_classes=CLASSES)
    with torch.autocast("cpu", dtype):
        value = loss(logits, mask)
    assert value.dtype == torch.float32
    assert value == pytest.approx(loss(logits.float(), mask).item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_predictions_stay_finite(kind: Any, gamma: float) -> None:
    mask = torch.tensor([[[0, 1]]])
    right = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]])
    loss = SegmentationLoss(kind, num_classes=2, focal_gamma=gamma)
    for sign, certain in ((1, True), (-1, False)):
        logits = (sign * right).requires_grad_()
        value = loss(logits, mask)
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()
        assert (value.item() < 1e-6) == certain


def test_the_weights_travel_with_the_module() -> None:
    loss = SegmentationLoss("cross_entropy", num_classes=2, class_weights=torch.tensor([1.0, 3.0]))
    assert loss.state_dict()["class_weights"].tolist() == [1, 3]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="cross_entropy, dice, focal, ce_dice"):
        SegmentationLoss("tversky", num_classes=2)
    with pytest.raises(ValueError, match="smooth_l1, giou"):
        FcosLoss("iou")


# --- class weights ----------------------------------------------------------------------------


def test_median_frequency_by_hand() -> None:
    masks = torch.tensor(
        [
            [[0, 0, 0, 1], [0, 0, 0, 255]],  # 7 labelled: class 0 six, class 1 one
            [[0, 0, 2, 2], [255, 255, 255, 255]],  # 4 labelled: class 0 two, class 2 two
        ],
        dtype=torch.uint8,
    )
    frequency = torch.tensor([8 / 11, 1 / 7, 2 / 4])
    weights = class_balance(masks, 4)
    torch.testing.assert_close(weights, torch.cat([0.5 / frequency, torch.ones(1)]))


def test_class_balance_in_chunks_equals_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.randint(0, 3, (9, 8, 8), dtype=torch.uint8)
    whole = class_balance(masks, 3)
    monkeypatch.setattr("multitask.class_weights._COUNTED_AT_ONCE", 2 * 64)
    assert torch.equal(class_balance(masks, 3), whole)


def test_class_balance_of_void_alone_is_neutral() -> None:
    assert class_balance(torch.full((2, 4, 4), 255, dtype=torch.uint8), 3).tolist() == [1, 1, 1]


def test_class_balance_refuses_unknown_values() -> None:
    with pytest.raises(ValueError, match="below 3"):
        class_balance(torch.full((1, 4, 4), 3, dtype=torch.uint8), 3)
