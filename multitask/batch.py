"""Masks and boxes of a user's own batch: checked, and in the form that the losses take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from multitask.losses import VOID
from phasewise.data.batch import entry, tensor_entry
from phasewise.errors import UserError

MASK = "(B, S, S), the class of each pixel, 255 void"
BOXES = "B tensors (n, 4), or one (B, M, 4): x1, y1, x2, y2 in pixels"
LABELS = "B tensors (n,), or one (B, M): the class of each box, from 1"
DIFFICULT = "B tensors (n,), or one (B, M), bool: boxes that do not count"

BORDER = 1.0
"""So many pixels outside of the image, a box is cut off there; further, it is wrong."""

PADDING = -1
"""Label of slots without a box."""


def checked_targets(
    batch: Mapping[str, Any], images: Tensor, num_classes: int, tasks: Sequence[str]
) -> dict[str, Tensor]:
    """What the losses need of a batch for the tasks that are trained; the rest is not looked at.

    Args:
        batch: see `multitask.module.MultitaskModule`.
        images: (B, 3, S, S).
        num_classes: C, background included.
        tasks: ``segmentation``, ``detection`` or both.

    Returns:
        ``mask`` long (B, S, S), void without one; ``boxes`` float (B, M, 4), ``labels`` long (B, M)
        with -1 = no box, ``difficult`` bool (B, M) and ``has_boxes`` bool (B,).

    Raises:
        UserError: nothing is there for any of the tasks, or something is wrong; in one line.
    """
    count, size = len(images), images.shape[-1]
    has_mask = "mask" in batch
    has_boxes = any(key in batch for key in ("boxes", "labels", "difficult"))
    if len(tasks) > 1 and not has_mask and not has_boxes:
        there = ", ".join(map(repr, batch))
        raise UserError(
            f"the batch has neither 'mask' ({MASK}) nor 'boxes' and 'labels' ({BOXES}); it has "
            + there
        )
    found = {}
    if "segmentation" in tasks:
        if has_mask or len(tasks) == 1:
            found["mask"] = checked_mask(batch, count, size, num_classes).to(images.device)
        else:
            found["mask"] = torch.full((count, size, size), VOID, device=images.device)
    if "detection" in tasks:
        if has_boxes or len(tasks) == 1:
            boxes = checked_boxes(batch, count, size, num_classes)
        else:
            boxes = _no_boxes(count)
        found |= {key: value.to(images.device) for key, value in boxes.items()}
    return found


def checked_mask(
    batch: Mapping[str, Any], count: int | None, size: int, num_classes: int
) -> Tensor:
    """The masks of a batch, long (B, S, S).

    Args:
        batch: what the loader yielded.
        count: B; None: any.
        size: S.
        num_classes: C.

    Raises:
        UserError: there are none, or of another shape, type or range.
    """
    mask = tensor_entry(batch, "mask", (count, size, size), MASK)
    if mask.is_floating_point() or mask.is_complex():
        raise UserError(f"batch['mask'] is of {mask.dtype}; integers are wanted: {MASK}")
    mask = mask.long()
    wrong = (mask != VOID) & ((mask < 0) | (mask >= num_classes))
    if wrong.any():
        image, value = int(wrong.nonzero()[0, 0]), int(mask[wrong][0])
        raise UserError(
            f"batch['mask'][{image}] holds {value}; the classes are 0 to {num_classes - 1}, and "
            f"{VOID} is void"
        )
    return mask


def checked_boxes(
    batch: Mapping[str, Any], count: int, size: int, num_classes: int
) -> dict[str, Tensor]:
    """``boxes``, ``labels``, ``difficult`` and ``has_boxes``, see `checked_targets`.

    Raises:
        UserError: something is missing, or of another shape, type or range.
    """
    boxes, labels = entry(batch, "boxes", BOXES), entry(batch, "labels", LABELS)
    if isinstance(boxes, Tensor):
        found, real = _from_padded(batch, boxes, count)
    else:
        lists = {"boxes": boxes, "labels": labels, "difficult": batch.get("difficult")}
        found, real = _from_lists(lists, count)
    _check_labels(found["labels"], real, num_classes)
    _check_boxes(found["boxes"], real, size)
    slots = real[..., None].to(found["boxes"].device)
    return {
        "boxes": torch.where(slots, found["boxes"], 0).clamp(0, size),
        "labels": torch.where(real, found["labels"], PADDING),
        "difficult": found["difficult"] & real,
        "has_boxes": found["has_boxes"],
    }


def _no_boxes(count: int, most: int = 1) -> dict[str, Tensor]:
    """Images that are not annotated."""
    return {
        "boxes": torch.zeros(count, most, 4),
        "labels": torch.full((count, most), PADDING),
        "difficult": torch.zeros(count, most, dtype=torch.bool),
        "has_boxes": torch.zeros(count, dtype=torch.bool),
    }


def _from_padded(
    batch: Mapping[str, Any], boxes: Tensor, count: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The entries of a padded batch, and which slots hold a box, bool (B, M)."""
    tensor_entry(batch, "boxes", (count, None, 4), BOXES)
    shape = boxes.shape[:2]
    labels = tensor_entry(batch, "labels", shape, LABELS)
    _check_type("boxes", boxes, "numbers")
    _check_type("labels", labels, "integers")
    if not boxes.shape[1]:  # no box in any image
        found = _no_boxes(count) | {"has_boxes": torch.ones(count, dtype=torch.bool)}
        return found, torch.zeros(count, 1, dtype=torch.bool)
    labels = labels.long()
    if batch.get("difficult") is not None:
        difficult = tensor_entry(batch, "difficult", shape, DIFFICULT)
        _check_type("difficult", difficult, "bool")
    else:
        difficult = torch.zeros_like(labels, dtype=torch.bool)
    found = {
        "boxes": boxes.float(),
        "labels": labels,
        "difficult": difficult,
        "has_boxes": torch.ones(count, dtype=torch.bool, device=boxes.device),
    }
    return found, (labels != 0) & (labels != PADDING)


def _from_lists(entries: Mapping[str, Any], count: int) -> tuple[dict[str, Tensor], Tensor]:
    """The same from lists with an entry per image, None for one that is not annotated."""
    if entries["difficult"] is None:
        entries = {key: value for key, value in entries.items() if key != "difficult"}
    for key, value in entries.items():
        if not isinstance(value, (list, tuple)):
            raise UserError(
                f"batch[{key!r}] is a {type(value).__name__}; like 'boxes' it must be a list with "
                "an entry per image, or all of them padded tensors"
            )
        if len(value) != count:
            raise UserError(f"batch[{key!r}] has {len(value)} entries for {count} images")
    sizes = [_check_image(entries, image) for image in range(count)]
    most = max((size or 0 for size in sizes), default=0) or 1
    found = _no_boxes(count, most)
    known = [value for value in entries["boxes"] if value is not None]
    if known:
        found = {key: value.to(known[0].device) for key, value in found.items()}
    real = torch.zeros_like(found["difficult"])
    for image, size in enumerate(sizes):
        if size is not None:
            found["has_boxes"][image] = True
            real[image, :size] = True
            for key, value in entries.items():
                found[key][image, :size] = value[image]
    return found, real


def _check_image(entries: Mapping[str, Any], image: int) -> int | None:
    """How many boxes an image has; None if it is not annotated."""
    boxes = entries["boxes"][image]
    count = len(boxes) if isinstance(boxes, Tensor) and boxes.ndim else None
    for key, values in entries.items():
        value, name = values[image], f"{key}'][{image}]"
        if (value is None) != (boxes is None):
            raise UserError(
                f"batch['{name} is {_kind(value)}, but batch['boxes'][{image}] is {_kind(boxes)}: "
                "an image has both or neither"
            )
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise UserError(f"batch['{name} is a {_kind(value)}, not a tensor or None")
        shape = (count, 4) if key == "boxes" else (count,)
        if tuple(value.shape) != shape:
            wanted = "(n, 4)" if key == "boxes" else f"{shape}, as there are boxes"
            raise UserError(f"batch['{name} has the shape {tuple(value.shape)}, wanted is {wanted}")
        kind = {"boxes": "numbers", "labels": "integers", "difficult": "bool"}[key]
        _check_type(name.removesuffix("']"), value, kind)
    return count


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _check_type(name: str, value: Tensor, wanted: str) -> None:
    """Whether a tensor is of ``numbers``, ``integers`` or ``bool``."""
    is_bool, is_real = value.dtype == torch.bool, value.is_floating_point()
    fits = {
        "bool": is_bool,
        "integers": not (is_bool or is_real or value.is_complex()),
        "numbers": not (is_bool or value.is_complex()),
    }
    if not fits[wanted]:
        place = name if name.endswith("]") else f"{name}']"
        raise UserError(f"batch['{place} is of {value.dtype}; {wanted} are wanted")


def _check_labels(labels: Tensor, real: Tensor, num_classes: int) -> None:
    wrong = real & ((labels < 1) | (labels >= num_classes))
    if wrong.any():
        image = int(wrong.nonzero()[0, 0])
        raise UserError(
            f"batch['labels'][{image}] holds {int(labels[wrong][0])}; the classes of boxes are "
            f"1 to {num_classes - 1} (0 is the background)"
        )


def _check_boxes(boxes: Tensor, real: Tensor, size: int) -> None:
    """See that boxes are finite, the right way round and in the image."""
    # Negated, so that NaN is wrong.
    inside = ((boxes >= -BORDER) & (boxes <= size + BORDER)).all(-1)
    ordered = (boxes[..., 2:] >= boxes[..., :2]).all(-1)
    wrong = real & ~(inside & ordered)
    if wrong.any():
        image, row = wrong.nonzero()[0].tolist()
        box = boxes[image, row]
        reason = f"not inside of the image of {size} pixels"
        if not box.isfinite().all():
            reason = "not finite"
        elif not ordered[image, row]:
            reason = "x2 < x1 or y2 < y1"
        values = ", ".join(f"{value:g}" for value in box.tolist())
        raise UserError(f"batch['boxes'][{image}] has ({values}), {reason}; wanted is {BOXES}")
