"""Batches: what the steps of a module take, and the images of anybody's loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from phasewise.augment.color import normalize
from phasewise.errors import UserError

Rows = dict[str, Tensor]
"""Of a store: images still uint8."""


class Batch(dict[str, Tensor]):
    """What the steps of our modules take: ``image`` float (B, 3, S, S), normalised, and the targets
    of the task beside it."""


def entry(batch: Mapping[str, Any], key: str, meaning: str) -> Any:
    """What a user's batch holds under a key.

    Args:
        batch: what the loader yielded.
        key: which must be there.
        meaning: of the key, with its shape, for the message.

    Raises:
        UserError: it is not there, or the batch is no mapping.
    """
    if not isinstance(batch, Mapping):
        raise UserError(f"the batch is a {type(batch).__name__}; it must be a dict with {key!r}")
    if key not in batch:
        there = ", ".join(map(repr, batch)) or "nothing"
        raise UserError(f"the batch has no {key!r} ({meaning}); it has {there}")
    return batch[key]


def tensor_entry(
    batch: Mapping[str, Any], key: str, shape: Sequence[int | None], meaning: str
) -> Tensor:
    """A tensor of a user's batch.

    Args:
        batch, key, meaning: see `entry`.
        shape: wanted; None: any length.

    Raises:
        UserError: it is not there, no tensor, or of another shape.
    """
    found = entry(batch, key, meaning)
    if not isinstance(found, Tensor):
        raise UserError(f"batch[{key!r}] is a {type(found).__name__}, not a tensor ({meaning})")
    fits = len(found.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise UserError(f"batch[{key!r}] has the shape {tuple(found.shape)}, wanted is {meaning}")
    return found


def checked_images(batch: Mapping[str, Any], device: torch.device) -> Tensor:
    """The images of a user's batch, normalised, float (B, 3, S, S).

    Args:
        batch: ``image`` (B, 3, S, S), uint8, or float from 0 to 1.
        device: where they are wanted.

    Raises:
        UserError: there are none, or of another shape, type or range.
    """
    meaning = "(B, 3, S, S), uint8, or float from 0 to 1"
    images = tensor_entry(batch, "image", (None, 3, None, None), meaning).to(device)
    height, width = images.shape[-2:]
    if height != width:
        raise UserError(f"batch['image'] is {height}x{width} pixels; images must be square")
    if images.dtype == torch.uint8:
        return normalize(images)
    if not images.is_floating_point():
        raise UserError(f"batch['image'] is of {images.dtype}; wanted is {meaning}")
    low, high = (float(it) for it in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"batch['image'] has values from {low:.3g} to {high:.3g}; as float they must lie "
            "between 0 and 1, not normalised: the module does that itself"
        )
    return normalize(images * 255)


def resized(batch: Rows, size: int) -> Rows:
    """A batch of uint8 images with its masks and boxes at another size.

    Images bilinear, antialiased; masks take the pixel under each centre and are never interpolated.

    Args:
        batch: ``image`` uint8 (B, 3, S, S); if there, ``mask`` (B, S, S) and ``boxes`` (B, M, 4).
        size: the new S.
    """
    side = batch["image"].shape[-1]
    if side == size:
        return batch
    out = dict(batch)
    out["image"] = resize(batch["image"], [size, size], antialias=True)
    if "mask" in batch:
        exact = InterpolationMode.NEAREST_EXACT
        out["mask"] = resize(batch["mask"][:, None], [size, size], exact)[:, 0]
    if "boxes" in batch:
        out["boxes"] = batch["boxes"] * (size / side)
    return out
