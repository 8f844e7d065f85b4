"""The box of each image of a user's own batch, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from phasewise.data.batch import tensor_entry
from phasewise.errors import UserError

MEANING = "(B, 4), x1, y1, x2, y2 in pixels; four NaNs: no object"

BORDER = 1.0
"""Pixels by which a box may leave the image, and is clipped, as of annotations in files."""


def box_targets(batch: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
    """The boxes of a batch as our DataModules have them.

    Args:
        batch: ``box`` (B, 4), x1, y1, x2, y2 in pixels, four NaNs where there is no object.
        images: (B, 3, S, S).

    Returns:
        ``boxes`` float32 (B, 1, 4), clipped to the image; ``labels`` int64 (B, 1), 1 where there is
        a box, -1 where there is none.

    Raises:
        UserError: no such key, another shape or type; a box that is empty, not finite, or more than
            a pixel outside of its image; fractions in place of pixels.
    """
    given = tensor_entry(batch, "box", (len(images), 4), MEANING)
    if given.dtype == torch.bool or given.is_complex():
        raise UserError(f"batch['box'] is of {given.dtype}; numbers are wanted: {MEANING}")
    given = given.to(images.device, torch.float32)
    side = images.shape[-1]
    absent = given.isnan().all(1)
    boxes = given.clamp(0, side)
    inside = ((given - boxes).abs() <= BORDER).all(1)  # of NaN and infinity as well
    right = inside & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not (right | absent).all():
        row = int((right | absent).logical_not().nonzero()[0, 0])
        raise UserError(_complaint(row, given[row].tolist(), bool(inside[row]), side))
    if _are_fractions(given[right]):
        raise UserError(
            f"batch['box'] goes up to {float(given[right].max()):.3g}; boxes are in pixels of "
            f"images of {side}x{side}, not fractions of the side"
        )
    return {
        "boxes": boxes.nan_to_num(0.0)[:, None],
        "labels": torch.where(absent, -1, 1)[:, None],
    }


def _complaint(row: int, box: list[float], is_inside: bool, side: int) -> str:
    values = ", ".join(f"{value:g}" for value in box)
    if not all(map(math.isfinite, box)):
        reason = "is not finite"
    elif not is_inside:
        reason = f"leaves its image of {side}x{side}"
    else:
        reason = "is empty: x2 must be larger than x1, y2 than y1"
    return f"batch['box'][{row}] = [{values}] {reason}; wanted is {MEANING}"


def _are_fractions(boxes: Tensor) -> bool:
    """Whether no box (n, 4) reaches beyond the first pixel."""
    return bool(len(boxes)) and float(boxes.max()) <= 1
