"""AutoAugment: sub-policies of two operations each that were searched for on ImageNet.

Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data" (2019, arXiv:1805.09501),
table 9. The geometry of a sub-policy (rotate, shear) joins the homography of its image, so masks
and boxes follow; its colours are torchvision's operations on the unwarped uint8 image. So colours
come before geometry also in the sub-policies that name them in the other order: there, equalize
and the like do not see the empty corners that a rotation leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from phasewise.augment.draws import Draws
from phasewise.augment.geometry import rotation, shear
from phasewise.augment.transfer import send

SubPolicy = tuple[tuple[str, float, int], tuple[str, float, int]]
"""Twice an operation, its probability, and its level, 0 to 9 (0 where it has none)."""

POLICY: tuple[SubPolicy, ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)

TOP = 9
"""The highest level."""

SIGNED = ("rotate", "shear_x", "color", "contrast", "sharpness")
"""Operations that go either way."""

MAGNITUDES: dict[str, Callable[[int], float]] = {
    "rotate": lambda level: math.radians(30 * level / TOP),
    "shear_x": lambda level: 0.3 * level / TOP,
    "color": lambda level: 0.9 * level / TOP,
    "contrast": lambda level: 0.9 * level / TOP,
    "sharpness": lambda level: 0.9 * level / TOP,
    "posterize": lambda level: round(8 - 4 * level / TOP),
    "solarize": lambda level: 255 * (1 - level / TOP),
}
"""What a level means: radians, pixels per pixel, change of a factor, bits kept, threshold."""

GEOMETRY: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "rotate": rotation,
    "shear_x": lambda amount, height, width: shear(amount),
}
"""Name -> the homographies (B, 3, 3) of magnitudes (B,), height and width."""

COLOR: dict[str, Callable[[Tensor, float], Tensor]] = {
    "autocontrast": lambda image, _: F.autocontrast(image),
    "equalize": lambda image, _: F.equalize(image),
    "invert": lambda image, _: F.invert(image),
    "posterize": lambda image, bits: F.posterize(image, int(bits)),
    "solarize": F.solarize,
    "color": lambda image, change: F.adjust_saturation(image, 1 + change),
    "contrast": lambda image, change: F.adjust_contrast(image, 1 + change),
    "sharpness": lambda image, change: F.adjust_sharpness(image, 1 + change),
}
"""Name -> images uint8 (N, 3, H, W) after the operation, each for itself."""


class Step(NamedTuple):
    """One operation of `COLOR` on some images of a batch: ``rows`` (N,) int64 on the CPU."""

    name: str
    magnitude: float
    rows: Tensor


def draw(draws: Draws, chosen: Tensor) -> tuple[Tensor, list[Step]]:
    """A sub-policy for each image; ``chosen`` (B,) bool says which images get theirs.

    Returns:
        The homographies (B, 3, 3) of the geometry, and the colours in the order in which they are
        to be applied.
    """
    policies = draws.below(len(POLICY)).tolist()
    coins = draws.uniform(0, 1, 2).tolist()
    signs = (2 * draws.below(2, 2) - 1).tolist()
    homography = torch.eye(3, dtype=torch.float64).repeat(draws.batch, 1, 1)
    steps = []
    for turn in (0, 1):
        groups: dict[tuple[str, float], list[int]] = {}
        for row in chosen.nonzero()[:, 0].tolist():
            name, probability, level = POLICY[policies[row]][turn]
            if coins[row][turn] < probability:
                magnitude = MAGNITUDES[name](level) if name in MAGNITUDES else 0.0
                magnitude *= signs[row][turn] if name in SIGNED else 1
                groups.setdefault((name, magnitude), []).append(row)
        for (name, magnitude), members in groups.items():
            rows = torch.tensor(members)
            if name in GEOMETRY:
                amount = torch.tensor([magnitude], dtype=torch.float64)
                matrix = GEOMETRY[name](amount, draws.height, draws.width)
                homography[rows] = matrix @ homography[rows]
            else:
                steps.append(Step(name, magnitude, rows))
    return homography, steps


def apply(image: Tensor, steps: Sequence[Step]) -> Tensor:
    """A new batch uint8 (B, 3, H, W), of whose images some have other colours."""
    image = image.clone()
    for step in steps:
        rows = send(step.rows, image.device)
        image[rows] = COLOR[step.name](image[rows], step.magnitude)
    return image
