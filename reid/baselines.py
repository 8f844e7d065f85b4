"""Trivial predictors: what a network must beat to have learned anything."""

from __future__ import annotations

import torch
from torch import Tensor

from phasewise.data.batch import Batch
from phasewise.data.seeding import derive


def random_features(batch: Batch) -> Tensor:
    """A direction drawn for each image (B, 16), the same each time."""
    drawn = [
        torch.randn(16, generator=torch.Generator().manual_seed(derive(0, "features", row)))
        for row in batch["index"].tolist()
    ]
    return torch.stack(drawn).to(batch["image"].device)


def mean_colour(batch: Batch) -> Tensor:
    """The mean of each channel of the normalised image (B, 3)."""
    return batch["image"].float().mean((2, 3))
