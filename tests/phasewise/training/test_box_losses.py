"""The losses equal torchvision's, and ask a device for nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from phasewise.training.box_losses import ciou_loss, giou_loss


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes of which some overlap, some touch, some are equal, and some are far apart."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, count, 2, generator=generator) * 90
    sides = torch.rand(2, count, 2, generator=generator) * 40 + 1
    boxes, targets = torch.cat([corners, corners + sides], -1)
    targets[0] = boxes[0]
    targets[1] = boxes[1] + torch.tensor([1.0, 0, 1, 0]) * (boxes[1, 2] - boxes[1, 0])
    targets[2] = boxes[2] + 200
    return boxes, targets


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(giou_loss, generalized_box_iou_loss), (ciou_loss, complete_box_iou_loss)],
)
def test_values_and_gradients_are_torchvisions(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], seed: int
) -> None:
    boxes, targets = pairs(200, seed)
    found, wanted = boxes.clone().requires_grad_(), boxes.clone().requires_grad_()
    loss, reference = ours(found, targets), theirs(wanted, targets)
    assert torch.equal(loss, reference)
    loss.sum().backward()
    reference.sum().backward()
    assert torch.equal(found.grad, wanted.grad)


def test_no_pair_is_no_loss() -> None:
    none = torch.zeros(0, 4)
    assert giou_loss(none, none).shape == ciou_loss(none, none).shape == (0,)
