"""Maps of probabilities on the CPU, from the size that a network saw to that of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resampled(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Maps (C, h, w) at another height and width: bilinear, antialiased when shrinking."""
    if maps.shape[-2:] == shape:
        return maps
    return interpolate(maps[None], shape, mode="bilinear", antialias=True)[0]


def mean_map(maps: Sequence[Tensor]) -> Tensor:
    """The mean (..., h, w) of maps; those (h, w) of another size at that of the first one."""
    height, width = maps[0].shape[-2:]
    return torch.stack([resampled(each[None], (height, width))[0] for each in maps]).mean(0)


def most_likely(probabilities: Tensor, shape: tuple[int, int]) -> Tensor:
    """The class of each pixel, uint8 (H, W), from probabilities (C, h, w) that are resampled.

    One class after the other: all of them at the size of a photograph would take gigabytes.
    """
    best = resampled(probabilities[:1], shape)[0]
    classes = torch.zeros(shape, dtype=torch.uint8)
    for label in range(1, len(probabilities)):
        values = resampled(probabilities[label : label + 1], shape)[0]
        classes[values > best] = label
        best = torch.maximum(best, values)
    return classes
