"""From a map to one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """The mean over all places."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C)``."""
        return maps.mean((2, 3))


class Maximum(nn.Module):
    """The largest value of all places, channel by channel."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C)``."""
        return maps.amax((2, 3))


class GeM(nn.Module):
    """The generalised mean ``mean(x^p)^(1/p)`` with one learned ``p``: 1 is the average, infinity
    the maximum.

    Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (2018), section
    3.2. Values below ``eps``, negative ones among them, count as ``eps``.

    Args:
        p: where the exponent starts; 3 in the paper.
        eps: smallest value, > 0.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """Float32 ``(B, C, H, W)`` to ``(B, C)``."""
        places = maps.flatten(2).clamp(min=self.eps)
        # Divided by the largest first, a power cannot overflow; the result is the same.
        largest = places.detach().amax(2, keepdim=True)
        mean = (places / largest).pow(self.p).mean(2)
        return largest.squeeze(2) * mean.pow(1 / self.p)


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "native": Average,
    "avg": Average,
    "max": Maximum,
    "gem": GeM,
}
"""``native`` and ``avg`` differ in the map that the backbone gives, see `reid.backbones`."""
