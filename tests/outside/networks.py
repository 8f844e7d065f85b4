"""Networks and losses of somebody's own, a small one for each place that takes them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Detector(nn.Module):
    """One convolution on the map of stride 8, 16 and 32 each."""

    def __init__(self, channels: list[int], num_classes: int, extra: int = 0) -> None:
        super().__init__()
        self.classes = num_classes - 1 + extra
        self.layers = nn.ModuleList(nn.Conv2d(c, self.classes + 5, 1) for c in channels[3:])

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        maps = [layer(it) for layer, it in zip(self.layers, features[3:], strict=True)]
        values = torch.cat([it.flatten(2) for it in maps], 2).transpose(1, 2)
        logits, sides, center = values.split([self.classes, 4, 1], 2)
        return {"class_logits": logits, "ltrb": sides.exp(), "centerness": center.squeeze(2)}


class OneLevel(nn.Module):
    """Predicts on the map of stride 16 only, and says so."""

    def __init__(self, channels: list[int], num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels[4], num_classes + 4, 1)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        values = self.layer(features[4]).flatten(2).transpose(1, 2)
        logits, sides, center = values.split([values.shape[2] - 5, 4, 1], 2)
        return {"class_logits": logits, "ltrb": sides.exp(), "centerness": center.squeeze(2)}

    def points(self, image_size: int, device: torch.device) -> tuple[Tensor, ...]:
        centres = (torch.arange(image_size // 16, device=device) + 0.5) * 16
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        xy = torch.stack([x.flatten(), y.flatten()], 1)
        return (xy, *(xy.new_full((len(xy),), value) for value in (16.0, 0.0, float("inf"))))


class Everywhere(nn.Module):
    """A detection loss that wants no object anywhere."""

    def forward(self, *, class_logits: Tensor, ltrb: Tensor, **_: Any) -> Tensor:
        return F.softplus(class_logits).mean() + 0 * ltrb.mean()


class Mask(nn.Module):
    """Two convolutions; the logits of the foreground."""

    def __init__(self, width: int, in_channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Pixels(nn.Module):
    """Binary cross-entropy of the pixels that are labelled."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        known = mask != 255
        return self.weight * F.binary_cross_entropy_with_logits(logits[known], mask[known].float())


class Corners(nn.Module):
    """Squared distance of corners, in sides."""

    def forward(self, boxes: Tensor, target: Tensor) -> Tensor:
        return (boxes - target).square().sum(1).mean()


class Power(nn.Module):
    """A pooling: the root of the mean square."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        return (maps.square().mean((2, 3)) + self.eps).sqrt() * self.scale


class Halved(nn.Module):
    """A neck, or a pooling, that forgets half of what it gets."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, values: Tensor) -> Tensor:
        return values[:, ::2]


class Proxies(nn.Module):
    """A metric loss with a vector for each identity."""

    def __init__(self, num_classes: int, embedding_dim: int, scale: float = 8.0) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.normalize(embeddings) @ F.normalize(self.vectors).T
        return F.cross_entropy(self.scale * cosines, labels)


class Vector(nn.Module):
    """A loss that forgets to reduce."""

    def forward(self, *values: Tensor, **more: Tensor) -> Tensor:
        return (values or tuple(more.values()))[0].flatten()
