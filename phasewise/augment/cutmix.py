"""A window of every image of a batch is that of another one: CutMix."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from phasewise.augment.draws import Draws
from phasewise.augment.transfer import send

Window = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels."""


def draw_cutmix(draws: Draws, alpha: float) -> tuple[Tensor, Window]:
    """Partners (B,) and one window for the batch.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features" (2019), section 3.1 and its authors' code: the share that stays is drawn from
    Beta(alpha, alpha); the window has the sides of the image times the square root of the rest,
    and its centre anywhere, so that it may be cut off by the border.
    """
    partners = torch.randperm(draws.batch, generator=draws.generator)
    numbers = random.Random(int(torch.randint(2**62, (), generator=draws.generator)))
    side = math.sqrt(1 - numbers.betavariate(alpha, alpha))
    top, bottom = _span(numbers, draws.height, side)
    left, right = _span(numbers, draws.width, side)
    return partners, (top, left, bottom, right)


def _span(numbers: random.Random, length: int, side: float) -> tuple[int, int]:
    half, centre = int(length * side) // 2, numbers.randrange(length)
    return max(centre - half, 0), min(centre + half, length)


def paste(values: Tensor, partners: Tensor, window: Window) -> Tensor:
    """Values with the partners' within the window.

    Args:
        values: (B, ..., H, W): images, or masks, whose classes move with the pixels.
        partners: (B,), on any device.
        window: of `draw_cutmix`.
    """
    top, left, bottom, right = window
    inside = (..., slice(top, bottom), slice(left, right))
    pasted = values.clone()
    pasted[inside] = values[inside].index_select(0, send(partners, values.device))
    return pasted
