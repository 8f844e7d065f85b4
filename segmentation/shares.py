"""Where pixels lie and where the gradient comes from: background, inside of objects, boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from phasewise.records.notes import Shares
from segmentation.losses import FOREGROUND, VOID, OwnLoss, SegmentationLoss, label_of

ZONES = ("background", "inside", "boundary")

SIDE_PER_PIXEL = 256
"""Side of an image in pixels for each pixel of a boundary on either side of the edge."""

GAMMA = 2.0
"""Of the focusing factor where the run's own loss has none."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits and mask (B, S, S) to a scalar."""


def boundary_width(side: int) -> int:
    """Of images of ``side`` pixels, on either side of the edge of an object."""
    return max(1, round(side / SIDE_PER_PIXEL))


def zones(mask: Tensor, width: int) -> Tensor:
    """Bool (3, B, S, S), in the order of `ZONES`; void is in none.

    Boundary is what has a pixel of the other class within ``width`` pixels, diagonals included.

    Args:
        mask: (B, S, S), 0 background, 1 foreground, 255 void.
        width: in pixels, > 0.
    """
    inside, outside = mask == FOREGROUND, (mask != FOREGROUND) & (mask != VOID)
    near = [
        F.max_pool2d(part[:, None].float(), 2 * width + 1, 1, width)[:, 0] > 0
        for part in (inside, outside)
    ]
    boundary = (inside & near[1]) | (outside & near[0])
    return torch.stack([outside & ~boundary, inside & ~boundary, boundary])


class GradientShares:
    """Sums over batches of pixels, and of the size of the gradient of losses with respect to the
    logits, by zone.

    Gradients of a batch count as often as it has labelled pixels, so that those of a mean over
    pixels are summed pixel by pixel.

    Args:
        loss: the run's own.
        width: see `zones`.
    """

    def __init__(self, loss: SegmentationLoss | OwnLoss, width: int) -> None:
        self.width = width
        self.losses = compared_losses(loss)
        self.sums: dict[str, Tensor] = {}

    def update(self, logits: Tensor, mask: Tensor) -> None:
        """Add a batch: logits (B, S, S) and mask, see `zones`."""
        where = zones(mask, self.width)
        count = int((mask != VOID).sum())
        self._add("pixels", where.sum((1, 2, 3)))
        for name, loss in self.losses.items():
            with torch.enable_grad():
                own = logits.detach().float().requires_grad_()
                value = loss(own, mask)
                if not value.requires_grad:  # somebody's own, of a batch without foreground, say
                    continue
                (slope,) = torch.autograd.grad(value, own)
            self._add(f"gradient: {name}", (where * slope.abs()).sum((1, 2, 3)) * count)

    def _add(self, name: str, values: Tensor) -> None:
        before = self.sums.get(name, torch.zeros(len(ZONES), dtype=torch.float64))
        self.sums[name] = before + values.cpu().double()  # Apple's GPUs have no float64

    def shares(self) -> list[Shares]:
        """Of all batches; bars without any pixel or gradient are left out."""
        sums = {name: values.tolist() for name, values in self.sums.items()}
        bars: Mapping[str, Mapping[str, float]] = {
            name: {zone: part / sum(parts) for zone, part in zip(ZONES, parts, strict=True)}
            for name, parts in sums.items()
            if sum(parts) > 0
        }
        if not bars:
            return []
        caption = (
            "Validation masks: where the labelled pixels lie, and which of them the gradient comes "
            "from (sum of |dL/dz|, z the logit of a pixel, with the best weights): cross-entropy "
            "alone, with the focusing factor (1 - q)^gamma where q is the probability of the true "
            "class, and the run's own loss. Boundary: within "
            f"{self.width} px of the other class."
        )
        return [Shares("gradient_shares", "share of the pixels, of the gradient", caption, bars)]


def compared_losses(loss: SegmentationLoss | OwnLoss) -> dict[str, Loss]:
    """Cross-entropy, the same with the focusing factor, and the run's own loss, by name."""
    gamma = loss.gamma if isinstance(loss, SegmentationLoss) else GAMMA
    found: dict[str, Loss] = {
        "cross-entropy": total_of(_plain("bce", gamma)),
        f"cross-entropy, focusing gamma {gamma:g}": total_of(_plain("focal", gamma)),
    }
    if isinstance(loss, OwnLoss):
        return found | {"the run's own loss": total_of(loss)}
    return found if loss.name == "bce" else found | {label_of(loss): total_of(loss)}


def total_of(loss: SegmentationLoss | OwnLoss) -> Loss:
    """Its terms under their final weights."""
    weights = loss.weights()

    def total(logits: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([weights[name] * v for name, v in loss(logits, mask).items()]).sum()

    return total


def _plain(name: str, gamma: float) -> SegmentationLoss:
    """Both classes weigh the same, so that focusing alone is seen."""
    return SegmentationLoss(
        name,
        dice_weight=0.5,
        schedule_epochs=0,
        pos_alpha=0.5,
        gamma=gamma,
        fp_weight=0.5,
        fn_weight=0.5,
        smooth=1.0,
        reduce="batch",
    )
