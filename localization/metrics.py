"""Scores of one box per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

THRESHOLDS = {"acc50": 0.5, "acc75": 0.75}


def paired_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """IoU of each box with the target of the same row.

    A box that is inverted or has no area has IoU 0 with everything.

    Args:
        boxes: (B, 4), x1, y1, x2, y2 in any unit.
        targets: (B, 4), in the same unit.

    Returns:
        float32 (B,) in [0, 1].
    """
    boxes, targets = boxes.float(), targets.float()
    common = torch.cat(
        [torch.maximum(boxes[:, :2], targets[:, :2]), torch.minimum(boxes[:, 2:], targets[:, 2:])],
        1,
    )
    shared, first, second = (_area(b) for b in (common, boxes, targets))
    union = first + second - shared
    return torch.where(union == 0, 0, shared / union)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


class BoxIoU(Metric):
    """Mean IoU over images, and the shares of images with an IoU ABOVE 0.5 and 0.75.

    An IoU of exactly 0.5 is no hit: the accuracy is defined by IoU > 0.5 (PASCAL VOC's overlap
    must exceed it too; COCO's need only reach it). Images count alike, whichever process saw them;
    those without a valid box are left out. ``compute`` returns the scalars ``IoU``, ``acc50`` and
    ``acc75``, NaN without images.
    """

    full_state_update = False
    total: Tensor
    hits: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Apple's GPUs have no float64.
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        none = torch.zeros(len(THRESHOLDS), dtype=torch.int64)
        self.add_state("total", torch.tensor(0, dtype=exact), dist_reduce_fx="sum")
        self.add_state("hits", none, dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, boxes: Tensor, targets: Tensor, valid: Tensor | None = None) -> None:
        """Add images.

        Args:
            boxes: (B, 4), x1, y1, x2, y2 in any unit.
            targets: (B, 4), in the same unit.
            valid: bool (B,), where there is a target; None: everywhere.
        """
        if valid is None:
            valid = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        iou = paired_iou(boxes, targets).where(valid, 0)
        self.total = self.total + iou.sum(dtype=self.total.dtype)
        self.hits = self.hits + torch.stack([(iou > t).sum() for t in THRESHOLDS.values()])
        self.images = self.images + valid.sum()

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far."""
        shares = self.hits.to(self.total) / self.images
        return {"IoU": self.total / self.images, **dict(zip(THRESHOLDS, shares, strict=True))}
