from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor
from torchvision.models.detection.fcos import FCOS, FCOSHead

from multitask.losses import (
    FcosLoss,
    SegmentationLoss,
    centerness_targets,
    class_balance,
    decode_boxes,
    fcos_targets,
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


def test_cross_entropy_of_one_pixel_by_hand():
    logits = torch.tensor([2.0, 0.0, -1.0]).view(1, 3, 1, 1)
    expected = math.log(math.exp(2) + 1 + math.exp(-1)) - 0
    loss = SegmentationLoss("cross_entropy", num_classes=3)
    assert loss(logits, torch.tensor([[[1]]])) == pytest.approx(expected)


def test_focal_of_two_pixels_by_hand():
    # Probabilities .8 and .5 of the true class, a third pixel is void.
    logits = torch.tensor([[0.8, 0.5, 0.1], [0.2, 0.5, 0.9]]).log().view(1, 2, 1, 3)
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    for gamma in (0.0, 0.5, 2.0):
        expected = -(0.2**gamma * math.log(0.8) + 0.5**gamma * math.log(0.5)) / 2
        loss = SegmentationLoss("focal", num_classes=2, focal_gamma=gamma)
        assert loss(logits, mask) == pytest.approx(expected)


def test_dice_by_hand_counts_only_the_classes_that_are_there():
    # Class 0: p = .8 where true, .4 where false; class 2 and the void pixel take no part.
    probabilities = torch.tensor([[0.8, 0.4, 0.3], [0.1, 0.5, 0.3], [0.1, 0.1, 0.4]])
    mask = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    dice = [2 * 0.8 / (0.8 + 0.4 + 1), 2 * 0.5 / (0.1 + 0.5 + 1)]
    loss = SegmentationLoss("dice", num_classes=3)
    got = loss(probabilities.log().view(1, 3, 1, 3), mask)
    assert got == pytest.approx(1 - sum(dice) / 2)


def test_dice_equals_smp_where_all_classes_occur():
    logits, mask = random_masks()
    expected = DiceLoss("multiclass", ignore_index=255)(logits, mask.long())
    assert SegmentationLoss("dice", num_classes=CLASSES)(logits, mask) == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
def test_cross_entropy_equals_torch(smoothing, weights):
    logits, mask = random_masks()
    weights = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(
        logits, mask.long(), weights, ignore_index=255, label_smoothing=smoothing
    )
    loss = SegmentationLoss(
        "cross_entropy", num_classes=CLASSES, class_weights=weights, label_smoothing=smoothing
    )
    assert loss(logits, mask) == pytest.approx(expected.item(), rel=1e-5)


def test_ce_dice_is_the_sum():
    logits, mask = random_masks()
    ce, dice, both = (
        SegmentationLoss(kind, num_classes=CLASSES)(logits, mask)
        for kind in ("cross_entropy", "dice", "ce_dice")
    )
    assert both == pytest.approx((ce + dice).item())


@pytest.mark.parametrize("kind", KINDS)
def test_void_pixels_change_nothing(kind):
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
def test_a_batch_without_labels_is_zero(kind, weighted):
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
def test_half_precision_logits(kind, dtype):
    logits, mask = random_masks()
    logits = (10 * logits).to(dtype)
    loss = SegmentationLoss(kind, num_classes=CLASSES)
    with torch.autocast("cpu", dtype):
        value = loss(logits, mask)
    assert value.dtype == torch.float32
    assert value == pytest.approx(loss(logits.float(), mask).item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_predictions_stay_finite(kind, gamma):
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


def test_the_weights_travel_with_the_module():
    loss = SegmentationLoss("cross_entropy", num_classes=2, class_weights=torch.tensor([1.0, 3.0]))
    assert loss.state_dict()["class_weights"].tolist() == [1, 3]


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="cross_entropy, dice, focal, ce_dice"):
        SegmentationLoss("tversky", num_classes=2)
    with pytest.raises(ValueError, match="smooth_l1, giou"):
        FcosLoss("iou")


# --- class weights ----------------------------------------------------------------------------


def test_median_frequency_by_hand():
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


def test_class_balance_in_chunks_equals_one_go(monkeypatch):
    masks = torch.randint(0, 3, (9, 8, 8), dtype=torch.uint8)
    whole = class_balance(masks, 3)
    monkeypatch.setattr("multitask.losses._COUNTED_AT_ONCE", 2 * 64)
    assert torch.equal(class_balance(masks, 3), whole)


def test_class_balance_of_void_alone_is_neutral():
    assert class_balance(torch.full((2, 4, 4), 255, dtype=torch.uint8), 3).tolist() == [1, 1, 1]


def test_class_balance_refuses_unknown_values():
    with pytest.raises(ValueError, match="below 3"):
        class_balance(torch.full((1, 4, 4), 3, dtype=torch.uint8), 3)


# --- detection --------------------------------------------------------------------------------

STRIDES = (8, 16, 32)
SIZE = 256
K = 3


def grid(levels: tuple[int, ...] = STRIDES, size: int = SIZE) -> tuple[Tensor, ...]:
    """points, strides, low, high with torchvision's intervals: 4 to 8 strides."""
    columns: list[list[Tensor]] = [[], [], [], []]
    for i, stride in enumerate(levels):
        line = (torch.arange(size // stride) + 0.5) * stride
        y, x = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], 1)
        low = 0.0 if i == 0 else 4.0 * stride
        high = math.inf if i == len(levels) - 1 else 8.0 * stride
        constants = [torch.full((len(points),), float(v)) for v in (stride, low, high)]
        for column, part in zip(columns, [points, *constants], strict=True):
            column.append(part)
    return tuple(torch.cat(column) for column in columns)


def random_truth(seed: int, batch: int = 4, most: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, most, 2, generator=generator) * SIZE * 0.8
    side = 6 + torch.rand(batch, most, 2, generator=generator) ** 2 * SIZE * 0.8
    labels = torch.randint(1, K + 1, (batch, most), generator=generator)
    labels[torch.arange(most) >= torch.tensor([most, 3, 0, 5])[:batch, None]] = -1
    return {
        "boxes": torch.cat([corner, (corner + side).clamp(max=SIZE)], -1),
        "labels": labels,
        "difficult": torch.zeros(batch, most, dtype=torch.bool),
    }


def random_outputs(points: Tensor, batch: int = 4, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, len(points), *shape, generator=generator)

    return {
        "class_logits": normal(K).requires_grad_(),
        "ltrb": F.softplus(normal(4)).detach().requires_grad_(),
        "centerness": normal().requires_grad_(),
    }


class Recorder(FCOSHead):
    """torchvision's head, keeping the matching it is given."""

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        self.matched = torch.stack(matched_idxs)
        return super().compute_loss(targets, head_outputs, anchors, matched_idxs)


def torchvision_losses(
    outputs: dict[str, Tensor], truth: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses and matched indices (-1 = background) of FCOS.compute_loss, labels from 0."""
    points, strides, _, _ = grid()
    anchors = torch.cat([points - strides[:, None] / 2, points + strides[:, None] / 2], 1)
    targets = [
        {"boxes": boxes[labels > 0], "labels": labels[labels > 0] - 1}
        for boxes, labels in zip(truth["boxes"], truth["labels"], strict=True)
    ]
    named = {
        "cls_logits": outputs["class_logits"],
        "bbox_regression": outputs["ltrb"],
        "bbox_ctrness": outputs["centerness"][..., None],
    }
    head = Recorder(32, 1, K, num_convs=1)
    model = SimpleNamespace(center_sampling_radius=1.5, head=head)
    counts = [(SIZE // stride) ** 2 for stride in STRIDES]
    losses = FCOS.compute_loss(model, targets, named, [anchors] * len(targets), counts)
    return losses, head.matched


@pytest.mark.parametrize("seed", range(5))
def test_targets_equal_torchvision(seed):
    truth = random_truth(seed)
    points, *levels = grid()
    labels, boxes, ignore = fcos_targets(points, *levels, **truth)
    _, matched = torchvision_losses(random_outputs(points), truth)
    positive = matched >= 0
    assert positive.sum() > 20
    assert torch.equal(labels > 0, positive)
    assert not ignore.any()
    expected_labels = truth["labels"].gather(1, matched.clamp(min=0))
    assert torch.equal(labels[positive], expected_labels[positive])
    expected = truth["boxes"].gather(1, matched.clamp(min=0)[..., None].expand(-1, -1, 4))
    assert torch.equal(boxes[positive], expected[positive])
    assert (boxes[~positive] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients_equal_torchvision(seed):
    truth = random_truth(seed)
    outputs = random_outputs(grid()[0])
    has_boxes = torch.ones(4, dtype=torch.bool)
    mine = FcosLoss("giou")(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
    theirs, _ = torchvision_losses(outputs, truth)
    pairs = {"classification": "classification", "box": "bbox_regression"}
    pairs["centerness"] = "bbox_ctrness"
    for name, other in pairs.items():
        assert mine[name].item() == pytest.approx(theirs[other].item(), rel=1e-5), name
    leaves = list(outputs.values())
    expected = torch.autograd.grad(sum(theirs.values()), leaves)
    for got, want in zip(torch.autograd.grad(sum(mine.values()), leaves), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)


def grid_names() -> dict[str, Tensor]:
    return dict(zip(("points", "strides", "range_low", "range_high"), grid(), strict=True))


def test_smooth_l1_by_hand():
    # One point at (4, 4) of stride 8 in the box 0, 0, 12, 8: sides 4, 4, 8, 4 = .5, .5, 1, .5.
    ltrb = torch.tensor([[[0.5, 0.0, 4.0, 0.5]]])  # off by 0, .5, 3, 0
    parts = FcosLoss("smooth_l1")(
        torch.zeros(1, 1, K),
        ltrb,
        torch.zeros(1, 1),
        torch.tensor([[4.0, 4.0]]),
        torch.tensor([8.0]),
        torch.tensor([0.0]),
        torch.tensor([64.0]),
        torch.tensor([[[0.0, 0.0, 12.0, 8.0]]]),
        torch.tensor([[2]]),
        torch.tensor([[False]]),
        torch.tensor([True]),
    )
    assert parts["box"] == pytest.approx(0.5 * 0.5**2 + 2.5)
    # One class right, two wrong, all at p = .5: alpha .25 of the right one, .75 of the others.
    assert parts["classification"] == pytest.approx((0.25 + 0.75 * 2) * 0.25 * math.log(2))
    assert parts["centerness"] == pytest.approx(math.log(2))


def test_centerness_by_hand():
    sides = torch.tensor([[4.0, 4.0, 8.0, 4.0], [2.0, 3.0, 2.0, 3.0], [1.0, 1.0, 4.0, 9.0]])
    torch.testing.assert_close(
        centerness_targets(sides), torch.tensor([0.5**0.5, 1.0, (1 / 36) ** 0.5])
    )


def test_intervals_leave_no_gap():
    """On the border of two levels, where torchvision has none, the upper one is responsible."""
    points = torch.tensor([[32.0, 32.0], [32.0, 32.0]])
    strides, low, high = (
        torch.tensor([8.0, 16.0]),
        torch.tensor([0.0, 32.0]),
        torch.tensor([32, 64]),
    )
    labels, _, _ = fcos_targets(
        points,
        strides,
        low,
        high,
        torch.tensor([[[0.0, 0.0, 64.0, 64.0]]]),
        torch.tensor([[1]]),
        torch.tensor([[False]]),
    )
    assert labels.tolist() == [[0, 1]]


def test_difficult_boxes_are_neither_wanted_nor_punished():
    truth = random_truth(0)
    points, *levels = grid()
    truth["difficult"][0, :3] = True
    labels, _, ignore = fcos_targets(points, *levels, **truth)
    alone = truth["labels"].clone()
    alone[truth["difficult"]] = -1
    without, _, _ = fcos_targets(points, *levels, **{**truth, "labels": alone})
    assert torch.equal(labels, without)
    assert ignore.any()
    assert not (ignore & (labels > 0)).any()
    outputs = random_outputs(points)
    has_boxes = torch.ones(4, dtype=torch.bool)
    parts = FcosLoss("giou")(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
    gradients = torch.autograd.grad(sum(parts.values()), list(outputs.values()))
    assert all((gradient[ignore] == 0).all() for gradient in gradients)
    assert (gradients[0][~ignore] != 0).all()


@pytest.mark.parametrize("kind", ["smooth_l1", "giou"])
def test_images_without_annotation_change_nothing(kind):
    truth, points = random_truth(0), grid()[0]
    outputs = random_outputs(points)
    loss = FcosLoss(kind)
    has_boxes = torch.tensor([True, False, True, False])
    parts = loss(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
    only = loss(
        **{k: v[has_boxes] for k, v in outputs.items()},
        **grid_names(),
        **{k: v[has_boxes] for k, v in truth.items()},
        has_boxes=torch.ones(2, dtype=torch.bool),
    )
    for name, value in parts.items():
        assert value.item() == only[name].item(), name
    gradients = torch.autograd.grad(sum(parts.values()), list(outputs.values()))
    assert all((gradient[~has_boxes] == 0).all() for gradient in gradients)
    assert all(gradient[0].abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("kind", ["smooth_l1", "giou"])
@pytest.mark.parametrize("most", [0, 7])
@pytest.mark.parametrize("annotated", [True, False])
def test_batches_without_objects_are_finite(kind, most, annotated):
    points = grid()[0]
    outputs = random_outputs(points)
    truth = {key: value[:, :most] for key, value in random_truth(0).items()}
    truth["labels"] = torch.full_like(truth["labels"], -1)
    has_boxes = torch.full((4,), annotated)
    parts = FcosLoss(kind)(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
    gradients = torch.autograd.grad(sum(parts.values()), list(outputs.values()))
    assert parts["box"].item() == parts["centerness"].item() == 0
    assert (parts["classification"].item() > 0) == annotated
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0].abs().sum() > 0) == annotated
    assert (gradients[1] == 0).all()
    assert (gradients[2] == 0).all()


@pytest.mark.parametrize("kind", ["smooth_l1", "giou"])
def test_detection_in_half_precision(kind):
    truth, points = random_truth(0), grid()[0]
    outputs = {k: v.detach().bfloat16() for k, v in random_outputs(points).items()}
    has_boxes = torch.ones(4, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        half = FcosLoss(kind)(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
    full = FcosLoss(kind)(
        **{k: v.float() for k, v in outputs.items()}, **grid_names(), **truth, has_boxes=has_boxes
    )
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value == pytest.approx(full[name].item(), rel=1e-6)


def test_perfect_predictions_cost_nothing():
    truth = random_truth(0)
    points, strides, low, high = grid()
    labels, boxes, _ = fcos_targets(points, strides, low, high, **truth)
    sides = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)
    wanted = F.one_hot(labels, K + 1)[..., 1:]
    target = centerness_targets(sides.clamp(min=0.01)).clamp(1e-6, 1 - 1e-6)
    outputs = {
        "class_logits": 40.0 * (2 * wanted - 1),
        "ltrb": sides.clamp(min=0.01) / strides[:, None],
        "centerness": target.logit(),
    }
    has_boxes = torch.ones(4, dtype=torch.bool)
    for kind in ("giou", "smooth_l1"):
        parts = FcosLoss(kind)(**outputs, **grid_names(), **truth, has_boxes=has_boxes)
        assert parts["box"] == pytest.approx(0, abs=1e-5)
        assert parts["classification"] == pytest.approx(0, abs=1e-5)


def test_decoded_boxes_are_never_inverted():
    points = torch.tensor([[4.0, 12.0]])
    assert decode_boxes(points, torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[3, 10, 7, 16]]
    boxes = decode_boxes(points, torch.rand(5, 1, 4) + 0.01)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
