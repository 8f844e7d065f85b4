"""Losses of one box per image: fractions of the side in, float32 inside, finite for every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasewise.config.targets import build
from phasewise.networks import parts
from phasewise.training.box_losses import ciou_loss, giou_loss

TERMS: dict[str, tuple[str, ...]] = {
    "smooth_l1": ("smooth_l1",),
    "l1": ("l1",),
    "mse": ("mse",),
    "giou": ("giou",),
    "ciou": ("ciou",),
    "smooth_l1_giou": ("smooth_l1", "giou"),
    "l1_giou": ("l1", "giou"),
    "smooth_l1_ciou": ("smooth_l1", "ciou"),
    "l1_ciou": ("l1", "ciou"),
}
"""The terms of each loss."""

SMALLEST = 1e-4
"""Least width and height of a true box in the IoU terms, as fractions of the side."""

SCALE = 1000.0
"""What boxes are multiplied with in the IoU terms, which do not depend on the scale but for
the 1e-7 in their denominators: of an area of 1e-6 that would be a tenth."""


class LocalizationLoss(nn.Module):
    """A loss of the coordinates, of the overlap, or the sum of two.

    - ``smooth_l1``: mean over images and coordinates of d^2 / (2 beta) where the error d is below
      ``beta``, of d - beta / 2 elsewhere (Girshick 2015, "Fast R-CNN"). At a ``beta`` of 1 or more
      no error of a fraction is beyond it: half the squared error over beta.
    - ``l1``: mean of d.
    - ``mse``: mean of d^2.
    - ``giou``: mean over images of 1 - GIoU, in [0, 2] (Rezatofighi et al. 2019,
      arXiv:1902.09630).
    - ``ciou``: mean over images of 1 - CIoU (Zheng et al. 2020, arXiv:1911.08287).

    Images without a valid box count for nothing; without any valid one every term is 0 with zero
    gradients. True boxes are widened to 1e-4 of the side for the IoU terms.

    Args:
        name: a key of `TERMS`.
        beta: of ``smooth_l1``, as a fraction of the side, > 0.
        box_weight: of the coordinates' term in a sum, >= 0.
        iou_weight: of the overlap's term in a sum, >= 0; the two are not both 0.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """

    def __init__(self, name: str, *, beta: float, box_weight: float, iou_weight: float) -> None:
        super().__init__()
        if name not in TERMS:
            raise ValueError(f"loss must be one of {', '.join(TERMS)}, got {name!r}")
        if not (beta > 0 and math.isfinite(beta)):
            raise ValueError(f"beta must be > 0 and finite, got {beta}")
        for key, value in (("box_weight", box_weight), ("iou_weight", iou_weight)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{key} must be >= 0 and finite, got {value}")
        if box_weight == iou_weight == 0:
            raise ValueError("box_weight or iou_weight must be > 0: no error would cost anything")
        self.names = TERMS[name]
        self.beta = beta
        self.box_weight = box_weight
        self.iou_weight = iou_weight

    def forward(
        self, boxes: Tensor, target: Tensor, valid: Tensor, coordinates: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The unweighted terms by name, float32 scalars.

        Args:
            boxes: (B, 4), x1, y1, x2, y2 as fractions of the side, x2 > x1 and y2 > y1.
            target: (B, 4), the true ones.
            valid: bool (B,), where there is a true one.
            coordinates: (B, 4), what the terms of coordinates look at; None: the boxes.

        Raises:
            ValueError: the shapes differ.
        """
        if boxes.shape != target.shape or valid.shape != boxes.shape[:1]:
            raise ValueError(
                "boxes and target must be (B, 4) and valid (B,), got "
                f"{tuple(boxes.shape)}, {tuple(target.shape)} and {tuple(valid.shape)}"
            )
        boxes, target = boxes.float(), target.float()
        # First of all, so that not even a NaN where nothing is valid reaches a gradient.
        found = boxes if coordinates is None else coordinates.float()
        wanted = torch.where(valid[:, None], target, found.detach())
        target = torch.where(valid[:, None], target, boxes.detach())
        terms: dict[str, Callable[[], Tensor]] = {
            "smooth_l1": lambda: F.smooth_l1_loss(found, wanted, reduction="none", beta=self.beta),
            "l1": lambda: F.l1_loss(found, wanted, reduction="none"),
            "mse": lambda: F.mse_loss(found, wanted, reduction="none"),
            "giou": lambda: giou_loss(*_scaled(boxes, target))[:, None],
            "ciou": lambda: ciou_loss(*_scaled(boxes, target))[:, None],
        }
        count = valid.sum().clamp_min(1)
        return {name: (terms[name]().mean(1) * valid).sum() / count for name in self.names}

    def weights(self) -> dict[str, float]:
        """What the terms are multiplied with; 1 for a loss of one term."""
        if len(self.names) == 1:
            return {self.names[0]: 1.0}
        return dict(zip(self.names, (self.box_weight, self.iou_weight), strict=True))


class OwnLoss(parts.OwnLoss):
    """A loss that somebody brought, which is shown images with a valid box only.

    Args:
        loss: takes boxes and true boxes, both float32 (N, 4), x1, y1, x2, y2 as fractions of the
            side, N > 0, and returns a scalar.
    """

    def forward(
        self, boxes: Tensor, target: Tensor, valid: Tensor, coordinates: Tensor | None = None
    ) -> dict[str, Tensor]:
        """See `LocalizationLoss.forward`; it is shown the boxes.

        Raises:
            UserError: it is no scalar.
        """
        if not valid.any():
            return {"own": 0 * boxes.float().sum()}
        return self.term(boxes[valid].float(), target[valid].float())


def make_loss(name: str | Mapping[str, Any], **settings: Any) -> LocalizationLoss | OwnLoss:
    """The loss that is asked for.

    Args:
        name: of `LocalizationLoss`, or a mapping, see `phasewise.config.targets.build`.
        settings: of `LocalizationLoss`.

    Raises:
        UserError: the mapping makes no loss.
        ValueError: see `LocalizationLoss`.
    """
    if isinstance(name, Mapping):
        return OwnLoss(build(name, where="loss.name", kind=nn.Module))
    return LocalizationLoss(name, **settings)


def _scaled(boxes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    low, high = target.chunk(2, 1)
    target = torch.cat([low, torch.maximum(high, low + SMALLEST)], 1)
    return boxes * SCALE, target * SCALE
