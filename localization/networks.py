"""A backbone and a head of four numbers: one box per image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from localization.schema import RAW_HEADS
from phasewise.config.targets import build
from phasewise.errors import UserError
from phasewise.networks.backbones import build_backbone
from phasewise.networks.layers import freeze_unused, init_weights, swap_activation, swap_norm
from phasewise.networks.parts import returned
from phasewise.networks.stages import AroundBackbone

STRIDES = (1, 2, 4, 8, 16, 32)
"""Of the backbone's maps."""

HEAD_STRIDES = (8, 16, 32)
"""Of the maps that a head can look at."""

SMALLEST = 1e-3
"""Least width and height of a box, as fractions of the side."""

BETWEEN = math.log(2)
"""Logit of a box's extent; at logits of 0 the margins are a quarter of the side, the box a half."""

FIRST_SCALE = 0.01
"""What the last layer's weights are multiplied with, so that training starts near that box."""


def boxes_from_logits(logits: Tensor) -> Tensor:
    """Boxes within the image from any four numbers, in float32.

    Along each axis the side of the image is what lies before the box, the box, and what lies
    behind it; their shares are a softmax over the two numbers of the axis and a constant. So a box
    is never inverted, empty or outside, and the gradient is finite everywhere. Unbounded
    coordinates learn nothing from the IoU losses where boxes are inverted or apart.

    Args:
        logits: (B, 4), of the left, top, right and bottom margin.

    Returns:
        (B, 4), x1, y1, x2, y2 as fractions of the side: 0 <= x1 < x2 <= 1, likewise y.
    """
    before, behind = logits.float().unflatten(1, (2, 2)).unbind(1)
    shares = torch.stack([before, torch.full_like(before, BETWEEN), behind], -1).softmax(-1)
    before, _, behind = ((1 - SMALLEST) * shares).unbind(-1)
    return torch.cat([before, 1 - behind], 1)


def boxes_from_corners(corners: Tensor) -> Tensor:
    """Boxes from the coordinates of two opposite corners, which may be anywhere, in float32.

    Args:
        corners: (B, 4), x1, y1, x2, y2 as fractions of the side, in any order.

    Returns:
        (B, 4), with x1 < x2 and y1 < y2: at least `SMALLEST` wide and high, perhaps outside of the
        image.
    """
    first, second = corners.float().chunk(2, 1)
    low = torch.minimum(first, second)
    return torch.cat([low, torch.maximum(torch.maximum(first, second), low + SMALLEST)], 1)


def cut_to_image(boxes: Tensor) -> Tensor:
    """The part of boxes (B, 4) within the image, or what is left of them at its border."""
    low, high = boxes.chunk(2, 1)
    low = low.clamp(0, 1 - SMALLEST)
    return torch.cat([low, torch.maximum(high.clamp(0, 1), low + SMALLEST)], 1)


def _start_from_the_middle(box: nn.Linear, raw: bool) -> None:
    """Make the first boxes the middle half of the image, or nearly."""
    with torch.no_grad():
        box.weight.mul_(FIRST_SCALE)
        box.bias.copy_(torch.tensor([0.25, 0.25, 0.75, 0.75] if raw else [0.0] * 4))


class SpatialHead(nn.Module):
    """Keeps the map: a 1x1 convolution, norm and ReLU, dropout, and a linear layer over all cells.

    Pooling forgets where things are, which is what a box is about. Images of other sizes than the
    head was made for have their map resized.

    Args:
        channels: of the map.
        side: of the map.
        hidden: channels that the convolution leaves.
        dropout_rate: before the linear layer.
        raw: give the four numbers as they are.
    """

    def __init__(
        self, channels: int, side: int, hidden: int, dropout_rate: float, raw: bool = False
    ) -> None:
        super().__init__()
        self.side, self.raw = side, raw
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout_rate)
        self.box = nn.Linear(hidden * side**2, 4)

    def reset(self) -> None:
        """Start from the middle half of the image."""
        _start_from_the_middle(self.box, self.raw)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, h, h)`` to boxes ``(B, 4)``, see `boxes_from_logits`, or to raw numbers."""
        features = self.reduce(features)
        if features.shape[-1] != self.side:
            features = F.interpolate(features, (self.side, self.side), mode="bilinear")
        numbers = self.box(self.dropout(features.flatten(1)))
        return numbers if self.raw else boxes_from_logits(numbers)


class LinearHead(nn.Module):
    """Global average pooling, dropout, a linear layer.

    Args:
        channels: of the map.
        dropout_rate: before the linear layer.
        raw: give the four numbers as they are.
    """

    def __init__(self, channels: int, dropout_rate: float, raw: bool = False) -> None:
        super().__init__()
        self.raw = raw
        self.dropout = nn.Dropout(dropout_rate)
        self.box = nn.Linear(channels, 4)

    def reset(self) -> None:
        """Start from the middle half of the image."""
        _start_from_the_middle(self.box, self.raw)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, h, h)`` to boxes ``(B, 4)``, see `boxes_from_logits`, or to raw numbers."""
        numbers = self.box(self.dropout(features.mean((2, 3))))
        return numbers if self.raw else boxes_from_logits(numbers)


class PointsHead(nn.Module):
    """Every cell of the map says where the box is, and how much its word counts.

    A 3x3 convolution, norm and ReLU, dropout, and per cell a weight (a softmax over all cells) and
    the distances from its centre to the four sides; the box is the weighted mean of all cells'.
    Unlike a linear layer over the map it looks for the same thing in every place, so it learns from
    fewer images. Distances are at most a side, and a box holds the mean of the centres, so it is
    never inverted or empty; in evaluation it is clipped to the image.

    Args:
        channels: of the map.
        hidden: channels of the convolution.
        dropout_rate: of whole channels, before the last layer.
    """

    def __init__(self, channels: int, hidden: int, dropout_rate: float) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout2d(dropout_rate)
        self.box = nn.Conv2d(hidden, 5, 1)

    def reset(self) -> None:
        """Start from the middle half of the image: equal weights, and a quarter to each side."""
        assert self.box.bias is not None
        with torch.no_grad():
            self.box.weight.mul_(FIRST_SCALE)
            self.box.bias.copy_(torch.tensor([0.0] + [-math.log(3)] * 4))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to boxes ``(B, 4)`` as fractions of the side."""
        values = self.box(self.dropout(self.reduce(features))).float()
        height, width = values.shape[-2:]
        weights = values[:, 0].flatten(1).softmax(1)
        distances = values[:, 1:].flatten(2).sigmoid().clamp_min(SMALLEST)
        y = ((torch.arange(height, device=values.device) + 0.5) / height).repeat_interleave(width)
        x = ((torch.arange(width, device=values.device) + 0.5) / width).repeat(height)
        centres = torch.stack([x, y])
        sides = torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], 1)
        boxes = (sides * weights[:, None]).sum(2)
        return boxes if self.training else boxes.clamp(0, 1)


class OwnHead(nn.Module):
    """A head of somebody's own, whose boxes are looked at.

    Args:
        head: maps ``(B, C, h, h)`` to boxes ``(B, 4)``, x1, y1, x2, y2 as fractions of the side.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def reset(self) -> None:
        """Its first weights are its own business."""

    def forward(self, features: Tensor) -> Tensor:
        """See above.

        Raises:
            UserError: it gives something else.
        """
        shape = (len(features), 4)
        return returned(
            self.head(features), shape, "boxes (B, 4)", by=self.head, where="model.head"
        )


class LocalizationNetwork(AroundBackbone):
    """Images to one box each.

    Args:
        image_size: side of the images in pixels, a multiple of 32.
        backbone, pretrained: see `phasewise.networks.backbones.build_backbone`.
        stride: of the backbone's map that the head looks at: 8, 16 or 32 pixels.
        head: ``linear`` (see `LinearHead`), ``spatial`` (see `SpatialHead`), ``points`` (see
            `PointsHead`); or one of somebody's own, a mapping of ``_target_`` and its arguments: it
            is called with the channels of the map before these, see `OwnHead`.
        hidden: channels of the spatial head and of the one of points.
        box: ``bounded``: boxes are valid and, in evaluation, within the image by construction;
            ``raw``, of the linear and the spatial head: the layer's four numbers are the
            coordinates of two opposite corners, see `boxes_from_corners`.
        activation, norm, init_scheme: see `phasewise.networks.layers`. With pretrained weights, the
            backbone keeps its norms and weights; only the head is changed and drawn anew. The last
            layer's weights are scaled down, so that the first boxes are near the middle half of the
            image.
        dropout_rate: before the last layer.
        drop_path_rate: of the backbone, see `phasewise.networks.backbones.drop_path`.

    Raises:
        UserError: the backbone cannot be built, its weights do not fit, or ``norm`` would change
            nothing.
        ValueError: an unknown head or stride.
    """

    def __init__(
        self,
        image_size: int,
        *,
        backbone: str,
        pretrained: bool | str,
        stride: int,
        head: str | Mapping[str, Any],
        hidden: int,
        box: str,
        activation: str,
        init_scheme: str,
        norm: str,
        dropout_rate: float,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if box not in ("bounded", "raw"):
            raise ValueError(f"box must be bounded or raw, got {box!r}")
        raw = box == "raw"
        if raw and head not in RAW_HEADS:
            raise UserError(
                f"model.box=raw: goes with model.head={' and '.join(RAW_HEADS)}; others make their "
                "boxes in another way"
            )
        if stride not in HEAD_STRIDES:
            known = ", ".join(map(str, HEAD_STRIDES))
            raise ValueError(f"stride must be one of {known}, got {stride!r}")
        if norm == "group" and pretrained and head == "linear":
            raise UserError(
                "model.norm=group: changes nothing with pretrained weights, whose norms are kept, "
                "and model.head=linear, which has none"
            )
        self.level = STRIDES.index(stride)
        self.backbone = build_backbone(
            backbone, image_size, pretrained, depth=self.level, drop_path_rate=drop_path_rate
        )
        channels: int = self.backbone.out_channels[self.level]  # type: ignore[index, assignment]
        self.head: LinearHead | SpatialHead | PointsHead | OwnHead
        if isinstance(head, Mapping):
            self.head = OwnHead(build(head, channels, where="model.head", kind=nn.Module))
        elif head == "linear":
            self.head = LinearHead(channels, dropout_rate, raw)
        elif head == "spatial":
            side = image_size // stride
            self.head = SpatialHead(channels, side, hidden, dropout_rate, raw)
        elif head == "points":
            self.head = PointsHead(channels, hidden, dropout_rate)
        else:
            raise ValueError(f"head must be points, spatial or linear, got {head!r}")
        for part in (self.head,) if pretrained else (self.backbone, self.head):
            swap_norm(part, norm)
            init_weights(part, init_scheme)
        swap_activation(self, activation)
        self.head.reset()
        # Convolutions on channels-last tensors are 1.6 times as fast on CPU, and what GPUs want.
        self.to(memory_format=torch.channels_last)
        freeze_unused(self, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(B, 3, S, S)`` to boxes ``(B, 4)`` as fractions of the side.

        x2 > x1 and y2 > y1 always; within [0, 1] in evaluation. Of raw coordinates nothing is
        certain.
        """
        maps = self.maps(images.contiguous(memory_format=torch.channels_last))
        # bfloat16's steps would move the sides of a box by up to a thousandth of the image.
        with torch.autocast(images.device.type, enabled=False):
            return self.head(maps[self.level].float())
