"""Losses of the two tasks: logits in, float32 inside, finite for every batch.

The segmentation losses ignore void pixels, the detection losses ignore images without boxes; where
nothing is left to learn from, a loss is exactly 0 with zero gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from phasewise.config.help import not_one_of
from phasewise.config.targets import build
from phasewise.errors import UserError
from phasewise.networks.parts import returned
from phasewise.training.box_losses import giou_loss

VOID = 255
"""Value of mask pixels that are not labelled."""

OUTPUTS = ("class_logits", "ltrb", "centerness")
"""Of a detection head."""

CENTER_RADIUS = 1.5
"""Positive points lie within this many strides of the box's centre (torchvision's FCOS)."""


class SegmentationLoss(nn.Module):
    """Cross-entropy, soft Dice or focal loss of a multi-class segmentation.

    - ``cross_entropy``: mean over labelled pixels; with class weights, the weighted mean.
    - ``dice``: 1 - Dice per class over the whole batch (SMP's `DiceLoss`), averaged over the
      classes that the batch contains. A class without a pixel in the batch adds nothing, so its
      false positives cost only what they take away from the classes that are there.
    - ``focal``: mean of ``-(1 - p)^gamma log p`` over labelled pixels, where ``p`` is the SOFTMAX
      probability of the true class (Lin et al. 2017, arXiv:1708.02002, eq. 4). SMP's multi-class
      focal loss is another one: one sigmoid per class against the rest.
    - ``ce_dice``: the sum of the first two.

    Args:
        kind: one of the above.
        num_classes: C, background included.
        class_weights: (C,), for the cross-entropy only.
        label_smoothing: of the cross-entropy, 0 <= value < 1.
        focal_gamma: of the focal loss, >= 0; 0 gives the plain cross-entropy.

    Raises:
        ValueError: an unknown kind.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        kind: str,
        *,
        num_classes: int,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        terms = {
            "cross_entropy": [self._cross_entropy],
            "dice": [self._dice],
            "focal": [self._focal],
            "ce_dice": [self._cross_entropy, self._dice],
        }
        if kind not in terms:
            raise ValueError(f"segmentation loss must be one of {', '.join(terms)}, got {kind!r}")
        self.terms = terms[kind]
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.register_buffer("class_weights", class_weights)
        self.smp_dice = DiceLoss("multiclass", ignore_index=VOID)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of ``logits (B, C, H, W)`` against ``mask (B, H, W)``, integer, 255 = void."""
        logits, mask = logits.float(), mask.long()
        return torch.stack([term(logits, mask) for term in self.terms]).sum()

    def _cross_entropy(self, logits: Tensor, mask: Tensor) -> Tensor:
        total = F.cross_entropy(
            logits,
            mask,
            self.class_weights,
            ignore_index=VOID,
            reduction="sum",  # the mean of no pixel would be NaN
            label_smoothing=self.label_smoothing,
        )
        known = mask != VOID
        if self.class_weights is None:
            return total / known.sum().clamp_min(1)
        return total / self.class_weights[mask[known]].sum().clamp_min(1e-6)

    def _dice(self, logits: Tensor, mask: Tensor) -> Tensor:
        present = mask.new_zeros(VOID + 1).scatter_(0, mask.flatten(), 1)[: self.num_classes]
        # SMP averages over all classes, which would shrink the loss where many are absent.
        return self.smp_dice(logits, mask) * (self.num_classes / present.sum().clamp_min(1))

    def _focal(self, logits: Tensor, mask: Tensor) -> Tensor:
        cross_entropy = F.cross_entropy(logits, mask, ignore_index=VOID, reduction="none")
        # The floor keeps the gradient of the power finite at p = 1 for gamma < 1.
        missing = (-torch.expm1(-cross_entropy)).clamp_min(1e-8)
        labelled = (mask != VOID).sum().clamp_min(1)
        return (missing**self.focal_gamma * cross_entropy).sum() / labelled


class OwnSegmentationLoss(nn.Module):
    """A loss that somebody brought, which is asked only about batches with a labelled pixel.

    Args:
        loss: takes logits (B, C, H, W) and masks long (B, H, W), 255 = void, and returns a scalar.
    """

    class_weights = None

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of ``logits (B, C, H, W)`` against ``mask (B, H, W)``, integer, 255 = void.

        Raises:
            UserError: it is no scalar.
        """
        logits, mask = logits.float(), mask.long()
        if not (mask != VOID).any():
            return 0 * logits.sum()
        value = self.loss(logits, mask)
        return returned(value, (), "a scalar", by=self.loss, where="loss_segmentation")


def make_segmentation_loss(
    kind: str | Mapping[str, Any],
    *,
    num_classes: int,
    class_weights: str | Sequence[float] = "none",
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
) -> SegmentationLoss | OwnSegmentationLoss:
    """The loss that is asked for.

    Args:
        kind: of `SegmentationLoss`, or a mapping, see `phasewise.config.targets.build`.
        num_classes, label_smoothing, focal_gamma: see `SegmentationLoss`.
        class_weights: ``none``; ``balanced``, ones for the time being; or C numbers >= 0.

    Raises:
        UserError: the mapping makes no loss, or the weights are none.
    """
    if isinstance(kind, Mapping):
        if class_weights != "none":
            raise UserError(
                f"loss_class_weights={class_weights}: they are of the project's own losses; one "
                "that loss_segmentation brings has its own arguments"
            )
        return OwnSegmentationLoss(build(kind, where="loss_segmentation", kind=nn.Module))
    return SegmentationLoss(
        kind,
        num_classes=num_classes,
        class_weights=_first_weights(class_weights, num_classes),
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


def _first_weights(asked: str | Sequence[float], num_classes: int) -> Tensor | None:
    if isinstance(asked, str):
        if asked not in ("none", "balanced"):
            options = not_one_of(asked, ("none", "balanced"))
            raise UserError(f"loss_class_weights={asked}: {options}, or {num_classes} numbers")
        return torch.ones(num_classes) if asked == "balanced" else None
    if len(asked) != num_classes or not all(0 <= value < math.inf for value in asked):
        raise UserError(
            f"loss_class_weights={list(asked)}: must be none, balanced, or {num_classes} numbers "
            ">= 0, one of each class"
        )
    return torch.tensor([float(value) for value in asked])


def decode_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes ``(..., P, 4)`` as x1, y1, x2, y2 from ``points (P, 2)`` and positive distances to the
    left, top, right and bottom side ``(..., P, 4)``, all in pixels."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


def _side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom distances in pixels, positive inside; shapes broadcast."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def fcos_targets(
    points: Tensor,
    strides: Tensor,
    range_low: Tensor,
    range_high: Tensor,
    boxes: Tensor,
    labels: Tensor,
    difficult: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """What each point should predict (Tian et al. 2019, arXiv:1904.01355, and torchvision's FCOS).

    A point belongs to a box if it lies inside it, within 1.5 strides of its centre (in x and in y),
    and if its largest distance to a side is in the half-open interval that its level is responsible
    for. Of several boxes the smallest wins. A point that belongs to difficult boxes only is
    ignored. As in torchvision, a box without a point (it is smaller than the lowest stride, or
    smaller boxes took them all) is not learned.

    Args:
        points: (P, 2), x and y in pixels.
        strides: (P,), pixels.
        range_low: (P,), pixels, inclusive.
        range_high: (P,), pixels, exclusive; may be infinite.
        boxes: (B, M, 4) as x1, y1, x2, y2 in pixels; M may be 0.
        labels: (B, M), class >= 1, or -1 = padding.
        difficult: bool (B, M).

    Returns:
        ``labels`` int64 (B, P), class or 0 = background; ``boxes`` (B, P, 4), the matched box,
        zeros for background; ``ignore`` bool (B, P), neither positive nor negative.
    """
    batch, count = len(boxes), len(points)
    if boxes.shape[1] == 0:
        background = labels.new_zeros(batch, count)
        return background, boxes.new_zeros(batch, count, 4), background.bool()
    to_sides = _side_distances(points[:, None], boxes[:, None])  # (B, P, M, 4)
    centres = (boxes[:, None, :, :2] + boxes[:, None, :, 2:]) / 2
    off_centre = (points[:, None] - centres).abs().amax(-1)
    farthest = to_sides.amax(-1)
    belongs = (
        (labels > 0)[:, None]
        & (to_sides.amin(-1) > 0)
        & (off_centre < CENTER_RADIUS * strides[:, None])
        & (farthest >= range_low[:, None])
        & (farthest < range_high[:, None])
    )
    counted = belongs & ~difficult[:, None]
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)[:, None]
    smallest, best = torch.where(counted, areas, torch.inf).min(-1)  # (B, P)
    positive = smallest < torch.inf
    matched_labels = torch.where(positive, labels.gather(1, best), 0)
    matched_boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4)) * positive[..., None]
    return matched_labels, matched_boxes, (belongs & difficult[:, None]).any(-1) & ~positive


class FcosLoss(nn.Module):
    """Detection loss of FCOS: focal classification, box regression, centerness.

    Each term is summed over the batch and divided by the number of positive points, as in
    torchvision; ``giou`` is torchvision's box loss, ``smooth_l1`` (beta 1) compares the four
    distances in strides.

    Args:
        kind: ``smooth_l1`` or ``giou``.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("smooth_l1", "giou"):
            raise ValueError(f"box loss must be one of smooth_l1, giou, got {kind!r}")
        self.kind = kind

    def forward(
        self,
        class_logits: Tensor,
        ltrb: Tensor,
        centerness: Tensor,
        points: Tensor,
        strides: Tensor,
        range_low: Tensor,
        range_high: Tensor,
        boxes: Tensor,
        labels: Tensor,
        difficult: Tensor,
        has_boxes: Tensor,
    ) -> dict[str, Tensor]:
        """The three terms, each a scalar >= 0.

        Args:
            class_logits: (B, P, K), K classes without background: column k is class k + 1.
            ltrb: (B, P, 4), positive distances to left, top, right, bottom in strides.
            centerness: (B, P), logits.
            points, strides, range_low, range_high, boxes, labels, difficult: see `fcos_targets`.
            has_boxes: bool (B,); where False, the image is not annotated and contributes nothing.
        """
        class_logits, ltrb, centerness = class_logits.float(), ltrb.float(), centerness.float()
        classes, matched, ignore = fcos_targets(
            points, strides, range_low, range_high, boxes.float(), labels, difficult
        )
        annotated = has_boxes[:, None]
        positive = (classes > 0) & annotated
        counted = annotated & ~ignore
        wanted = F.one_hot(classes, class_logits.shape[-1] + 1)[..., 1:].to(class_logits)
        # How many there are is all that is asked of the device in a step, here and only here.
        counts, hits = counted.flatten().nonzero()[:, 0], positive.flatten().nonzero()[:, 0]
        focal = sigmoid_focal_loss(_at(class_logits, counts), _at(wanted, counts), reduction="sum")

        points, strides = points[hits % len(points)], strides[hits % len(points), None]
        predicted, matched = _at(ltrb, hits), _at(matched, hits)
        sides = _side_distances(points, matched)
        if self.kind == "giou":
            box = giou_loss(decode_boxes(points, predicted * strides), matched).sum()
        else:
            box = F.smooth_l1_loss(predicted, sides / strides, reduction="sum")
        center = F.binary_cross_entropy_with_logits(
            _at(centerness, hits), centerness_targets(sides), reduction="sum"
        )
        positives = max(len(hits), 1)
        return {
            "classification": focal / positives,
            "box": box / positives,
            "centerness": center / positives,
        }


class OwnDetectionLoss(nn.Module):
    """A loss that somebody brought, which is asked only about batches with an annotated image.

    Args:
        loss: takes the keyword arguments of `FcosLoss.forward` and returns a scalar, or several by
            name, which are added up.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, **given: Tensor) -> dict[str, Tensor]:
        """The terms; see `FcosLoss.forward` for what is given.

        Raises:
            UserError: they are no scalars.
        """
        if not given["has_boxes"].any():
            nothing = [0 * given[key].float().sum() for key in OUTPUTS]
            return {"detection": torch.stack(nothing).sum()}
        found = self.loss(**given)
        terms = found if isinstance(found, Mapping) and found else {"detection": found}
        meaning = "a scalar, or a dict of scalars"
        return {
            str(name): returned(value, (), meaning, by=self.loss, where="loss_detection")
            for name, value in terms.items()
        }


def make_detection_loss(kind: str | Mapping[str, Any], boxes: str) -> FcosLoss | OwnDetectionLoss:
    """The loss that is asked for.

    Args:
        kind: ``fcos``, or a mapping, see `phasewise.config.targets.build`.
        boxes: of `FcosLoss`.

    Raises:
        UserError: there is no such loss, or the mapping makes none.
    """
    if isinstance(kind, Mapping):
        return OwnDetectionLoss(build(kind, where="loss_detection", kind=nn.Module))
    if kind != "fcos":
        raise UserError(f"loss_detection={kind}: {not_one_of(kind, ('fcos',))}")
    return FcosLoss(boxes)


def _at(values: Tensor, rows: Tensor) -> Tensor:
    """Of ``values`` (B, P, ...) those at ``rows`` (N,) of the B x P points."""
    return values.flatten(0, 1).index_select(0, rows)


def centerness_targets(sides: Tensor) -> Tensor:
    """``sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))``, eq. 3 of FCOS.

    Args:
        sides: (..., 4), positive distances to left, top, right, bottom.

    Returns:
        (...), in (0, 1].
    """
    smaller, larger = torch.aminmax(sides.unflatten(-1, (2, 2)), dim=-2)
    return (smaller / larger).prod(-1).sqrt()
