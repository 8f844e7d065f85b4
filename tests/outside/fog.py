"""Augmentations of somebody's own."""

from __future__ import annotations

import torch
from torch import Tensor


class Fog:
    """Blends each image with white, by a share of its own."""

    def __init__(self, strength: float = 0.5) -> None:
        self.strength = strength

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        share = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
        return torch.lerp(images, torch.ones_like(images), share * self.strength)


class Halved:
    """Forgets half of the rows."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images[:, :, ::2]
