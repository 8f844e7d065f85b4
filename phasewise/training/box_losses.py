"""Losses that compare boxes by their overlap, for devices that nobody waits for.

As `torchvision.ops.generalized_box_iou_loss` and `complete_box_iou_loss`, equal to them to the last
bit, gradients included. Those select the pairs that overlap by a mask: a GPU then has to tell how
many there are before it gets any further work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-7
"""In the denominators, torchvision's."""


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """``1 - IoU + (hull - union) / hull`` of each pair: Rezatofighi et al. 2019
    (arXiv:1902.09630), algorithm 1.

    Args:
        boxes: float32 (N, 4) as x1, y1, x2, y2 with x1 < x2 and y1 < y2, in any unit far above
            `EPSILON`.
        targets: the same for the true ones.

    Returns:
        (N,), in [0, 2].
    """
    shared, union = _areas(boxes, targets)
    iou = shared / (union + EPSILON)
    width, height = _hull(boxes.unbind(-1), targets.unbind(-1))
    hull = width * height
    return 1 - (iou - (hull - union) / (hull + EPSILON))


def ciou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """``1 - IoU + d^2 / c^2 + alpha v`` of each pair: Zheng et al. 2020 (arXiv:1911.08287), eq. 10.

    d: between the centres, c: the hull's diagonal, v: how much the aspect ratios differ, alpha:
    without gradient.

    Args:
        boxes, targets: see `giou_loss`.

    Returns:
        (N,), >= 0.
    """
    shared, union = _areas(boxes, targets)
    iou = shared / (union + EPSILON)
    ours, theirs = boxes.unbind(-1), targets.unbind(-1)
    width, height = _hull(ours, theirs)
    diagonal = width**2 + height**2 + EPSILON
    (x, y), (u, v) = _centre(*ours), _centre(*theirs)
    distance = (x - u) ** 2 + (y - v) ** 2
    loss = 1 - iou + distance / diagonal
    angles = _angle(*targets.unbind(-1)) - _angle(*boxes.unbind(-1))
    ratio = (4 / math.pi**2) * angles**2
    with torch.no_grad():
        alpha = ratio / (1 - iou + ratio + EPSILON)
    return loss + alpha * ratio


def _areas(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of intersection and union."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes.unbind(-1), targets.unbind(-1)
    left, top = torch.max(x1, u1), torch.max(y1, v1)
    right, bottom = torch.min(x2, u2), torch.min(y2, v2)
    overlap = (bottom > top) & (right > left)
    shared = torch.where(overlap, (right - left) * (bottom - top), 0)
    return shared, (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared


def _hull(boxes: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box around both."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes, targets
    left, top = torch.min(x1, u1), torch.min(y1, v1)
    return torch.max(x2, u2) - left, torch.max(y2, v2) - top


def _centre(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> tuple[Tensor, Tensor]:
    return (x2 + x1) / 2, (y2 + y1) / 2


def _angle(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """Of the diagonal with the vertical, in radians."""
    width, height = x2 - x1, y2 - y1
    return torch.atan(width / height)
