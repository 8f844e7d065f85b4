"""The plain 2D U-Net of nnU-Net: Isensee et al. 2021, "nnU-Net: a self-configuring method for
deep learning-based biomedical image segmentation" (Nature Methods 18, 203).

What the network takes from there: two 3x3 convolutions, instance norm and leaky ReLU per stage,
strided convolutions down and transposed ones up, at most 16 times the first width, He's initial
weights, as many stages as the image allows, and a loss at each scale (deep supervision). What is
not the network's (its patches, augmentation, SGD with a polynomial schedule, five folds) is no part
of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

WIDEST = 16
"""No stage is wider than so many times the first one: 512 channels at a width of 32."""

SLOPE = 0.01
"""Of leaky ReLU below 0."""


def instance_norm(channels: int) -> nn.Module:
    """Of each image and channel, with scale and shift."""
    return nn.InstanceNorm2d(channels, affine=True)


def supervision_weights(count: int) -> list[float]:
    """What the losses of ``count`` scales are multiplied with, finest first: 1, 1/2, 1/4, ...,
    divided by their sum."""
    shares = [0.5**level for level in range(count)]
    return [share / sum(shares) for share in shares]


class Stage(nn.Sequential):
    """Two 3x3 convolutions with norm and leaky ReLU, the first with a stride, then dropout."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        dropout: nn.Module,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
            norm(outputs),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            norm(outputs),
            nn.LeakyReLU(SLOPE),
            dropout,
        )


class NNUNet(nn.Module):
    """See above.

    The coarsest stage of the decoder has no logits of its own: nnU-Net gives their loss the weight
    0. Below a depth of 3 there is one scale only.

    Args:
        in_channels: of the images.
        width: channels at full resolution (nnU-Net: 32); they double with every halving, up to
            `WIDEST` times as many.
        depth: how often images are halved; their sides are multiples of ``2**depth``.
        dropout: makes the dropout layer of a stage.
        norm: makes the norm of so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depth: int,
        dropout: Callable[[], nn.Module],
        norm: Callable[[int], nn.Module] = instance_norm,
    ) -> None:
        super().__init__()
        widths = [min(2**level, WIDEST) * width for level in range(depth + 1)]
        levels = list(pairwise(widths))[::-1]
        self.encoder = nn.ModuleList(
            Stage(inputs, outputs, 1 if level == 0 else 2, dropout(), norm)
            for level, (inputs, outputs) in enumerate(pairwise([in_channels, *widths]))
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, skip, 2, stride=2) for skip, deep in levels
        )
        self.decoder = nn.ModuleList(
            Stage(2 * skip, skip, 1, dropout(), norm) for skip, _ in levels
        )
        self.segmentation_head = nn.Sequential(nn.Conv2d(width, 1, 1))
        self.deep_heads = nn.ModuleList(nn.Conv2d(skip, 1, 1) for skip in widths[1 : depth - 1])
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor | Sequence[Tensor]:
        """``(B, in_channels, S, S)`` to logits ``(B, 1, S, S)``; in training, to those of sides S,
        S/2, S/4, ... as well, finest first."""
        maps, skips = images, []
        for stage in self.encoder:
            maps = stage(maps)
            skips.append(maps)
        skips.pop()
        found = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            maps = stage(torch.cat([up(maps), skips.pop()], 1))
            found.append(maps)
        logits = self.segmentation_head(maps)
        if not self.training or not self.deep_heads:
            return logits
        coarser = zip(self.deep_heads, found[-2::-1], strict=False)
        return [logits, *(head(maps) for head, maps in coarser)]
