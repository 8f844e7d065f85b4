"""Weights of the classes by how frequent they are in the training masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from multitask.batch import checked_mask
from multitask.losses import VOID

_COUNTED_AT_ONCE = 2**22  # mask pixels per step of count_pixels: about 32 MB of int64


def class_balance(masks: Tensor, num_classes: int) -> Tensor:
    """Class weights of a set of masks, see `balanced_weights`.

    Args:
        masks: uint8 (N, H, W), 255 = void.
        num_classes: C.

    Returns:
        float32 (C,).

    Raises:
        ValueError: a mask value is neither below C nor void.
    """
    return balanced_weights(count_pixels(masks, num_classes))


def balanced_weights(counts: Tensor) -> Tensor:
    """Class weights by median-frequency balancing (Eigen & Fergus 2015, arXiv:1411.4734).

    ``weight(c) = median of all freq / freq(c)``, where ``freq(c)`` is the number of pixels of class
    c divided by the number of labelled pixels in the images that contain c. Void is ignored. A
    class without any pixel gets weight 1 and no say in the median.

    Args:
        counts: of `count_pixels`, summed over all images.

    Returns:
        float32 (C,).
    """
    frequency = counts[0] / counts[1].clamp_min(1)
    present = frequency > 0
    weights = torch.ones_like(frequency)
    if present.any():
        weights[present] = frequency[present].quantile(0.5) / frequency[present]
    return weights.float()


def count_pixels(masks: Tensor, num_classes: int) -> Tensor:
    """How many pixels each class has, and how many labelled ones the images have that contain it.

    Args:
        masks: integer (N, H, W), 255 = void.
        num_classes: C.

    Returns:
        float64 (2, C); those of several sets of masks add up.

    Raises:
        ValueError: a mask value is neither below C nor void.
    """
    bins = VOID + 1
    step = max(1, _COUNTED_AT_ONCE // max(1, masks[0].numel()))
    per_image = []
    for part in masks.split(step):
        image = torch.arange(len(part), device=part.device).view(-1, 1, 1) * bins
        counts = torch.bincount((part + image).flatten(), minlength=len(part) * bins)
        per_image.append(counts.view(-1, bins))
    pixels = torch.cat(per_image)
    if pixels[:, num_classes:VOID].any():
        raise ValueError(f"mask values must be below {num_classes} or {VOID} (void)")
    pixels = pixels[:, :num_classes].double()
    around = (pixels.sum(1, keepdim=True) * (pixels > 0)).sum(0)
    return torch.stack([pixels.sum(0), around])


def count_batches(batches: Iterable[Any], image_size: int, num_classes: int) -> Tensor:
    """See `count_pixels`, of the masks of a user's own batches; those without have none.

    Raises:
        UserError: a mask is of another shape, type or range.
    """
    counts = torch.zeros(2, num_classes, dtype=torch.float64)
    for batch in batches:
        if isinstance(batch, Mapping) and "mask" in batch:
            mask = checked_mask(batch, None, image_size, num_classes)
            counts += count_pixels(mask, num_classes).cpu()
    return counts
