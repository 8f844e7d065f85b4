from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.fcos import FCOS, FCOSHead

from multitask.losses import (
    FcosLoss,
    centerness_targets,
    decode_boxes,
    fcos_targets,
)

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

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: Any) -> Any:
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
def test_targets_equal_torchvision(seed: Any) -> None:
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
def test_losses_and_gradients_equal_torchvision(seed: Any) -> None:
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


def test_smooth_l1_by_hand() -> None:
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


def test_centerness_by_hand() -> None:
    sides = torch.tensor([[4.0, 4.0, 8.0, 4.0], [2.0, 3.0, 2.0, 3.0], [1.0, 1.0, 4.0, 9.0]])
    torch.testing.assert_close(
        centerness_targets(sides), torch.tensor([0.5**0.5, 1.0, (1 / 36) ** 0.5])
    )


def test_intervals_leave_no_gap() -> None:
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


def test_difficult_boxes_are_neither_wanted_nor_punished() -> None:
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
def test_images_without_annotation_change_nothing(kind: str) -> None:
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
def test_batches_without_objects_are_finite(kind: str, most: int, annotated: bool) -> None:
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
def test_detection_in_half_precision(kind: str) -> None:
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


def test_perfect_predictions_cost_nothing() -> None:
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


def test_decoded_boxes_are_never_inverted() -> None:
    points = torch.tensor([[4.0, 12.0]])
    assert decode_boxes(points, torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[3, 10, 7, 16]]
    boxes = decode_boxes(points, torch.rand(5, 1, 4) + 0.01)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
