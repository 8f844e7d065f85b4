"""Random numbers of one batch: drawn on the CPU, so that every device sees the same ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Draws:
    """Draws for a batch of ``batch`` images of ``height`` x ``width`` pixels.

    All tensors are on the CPU, float64 unless said otherwise, with one row per image.
    The same seed and sizes give the same sequence.
    """

    def __init__(self, batch: int, height: int, width: int, seed: int) -> None:
        self.batch, self.height, self.width = batch, height, width
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) in [low, high)."""
        return self._unit(*shape).mul_(high - low).add_(low)

    def _unit(self, *shape: int) -> Tensor:
        return torch.rand(self.batch, *shape, generator=self.generator, dtype=torch.float64)

    def log_uniform(self, low: float, high: float) -> Tensor:
        """(B,) in [low, high), as often in [1/2, 1) as in [1, 2); ``low`` > 0."""
        return self.uniform(math.log(low), math.log(high)).exp_()

    def normal(self, std: float, *shape: int) -> Tensor:
        """(B, *shape) of mean 0 and standard deviation ``std``."""
        unit = torch.randn(self.batch, *shape, generator=self.generator, dtype=torch.float64)
        return unit.mul_(std)

    def below(self, count: Tensor | int, *shape: int) -> Tensor:
        """(B, *shape) int64 in 0 .. count - 1, all as likely; ``count`` >= 1 may be (B,)."""
        return (self.uniform(0, 1, *shape) * count).long()

    def chosen(self, p: float) -> Tensor:
        """(B,) bool, true with probability ``p``."""
        return self._unit() < p

    def window(
        self, area: tuple[float, float], ratio: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """Height and width (B,) of random windows, as fractions of the image's sides.

        ``area`` (fraction of the image) is uniform and ``ratio`` (width / height of the fractions)
        log-uniform, as in torchvision's RandomResizedCrop and RandomErasing; but instead of trying
        again when a window does not fit, the ratio is drawn among those that fit.
        """
        areas = self.uniform(*area)
        low, high = (areas.new_tensor(r).clamp(areas, 1 / areas).log() for r in ratio)
        ratios = torch.exp(low + (high - low) * self.uniform(0, 1))
        return (areas / ratios).sqrt(), (areas * ratios).sqrt()
