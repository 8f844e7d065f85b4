"""U-Net, Attention U-Net, ResU-Net and Attention ResU-Net as the Keras family of these names builds
them.

Ronneberger et al. 2015 (arXiv:1505.04597), Oktay et al. 2018 (arXiv:1804.03999) and He et al. 2016
(arXiv:1512.03385), with Keras' batch norm and initial weights (Glorot, biases 0). The ResU-Net is
the Attention ResU-Net without its gates, so that the two differ by them alone. That of Zhang et al.
2018 (arXiv:1711.10684), of that idea, has the norms before the convolutions and halves by strides,
three times: 7.8 million parameters, where this one has 33.1 at a width of 64 and a depth of 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth, drop_block2d

from phasewise.networks.layers import init_weights

BLOCK = 7
"""Side of the squares that DropBlock clears, as in its paper."""

UNETS: dict[str, dict[str, bool]] = {
    "unet": {},
    "attention_unet": {"attention": True},
    "resunet": {"residual": True},
    "attention_resunet": {"attention": True, "residual": True},
}
"""The architectures and what each adds to a plain U-Net."""


def keras_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with Keras' defaults: epsilon 1e-3 and, in torch's sense, momentum 0.01."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class DropBlock(nn.Module):
    """DropBlock (Ghiasi et al. 2018, arXiv:1810.12890) for maps of any size.

    torchvision's takes only odd blocks and maps that are not smaller; this one shrinks the block to
    the largest odd side that fits, down to single elements. It counts in float32, since the number
    of elements that it normalises by is beyond float16.

    Args:
        rate: of elements to clear, in [0, 1).
        size: side of the blocks in elements of the map, odd.
    """

    def __init__(self, rate: float, size: int = BLOCK) -> None:
        super().__init__()
        self.rate, self.size = rate, size

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        if not self.training:
            return maps
        side = min(self.size, *maps.shape[-2:])
        side -= 1 - side % 2
        return drop_block2d(maps.float(), self.rate, side).to(maps.dtype)


DROPOUTS: dict[str, Callable[[float], nn.Module]] = {
    "element": nn.Dropout,
    "channel": nn.Dropout2d,
    "block": DropBlock,
    "depth": partial(StochasticDepth, mode="row"),
}


def make_dropout(kind: str, rate: float) -> nn.Module:
    """A dropout layer; at rate 0 one that costs nothing.

    ``element``: single values, as Keras' Dropout. ``channel``: whole maps. ``block``: `DropBlock`.
    ``depth``: all of a sample, which only makes sense in a residual branch (Huang et al. 2016,
    arXiv:1603.09382).
    """
    return DROPOUTS[kind](rate) if rate else nn.Identity()


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with norm and ReLU, then dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: nn.Module) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            keras_norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            keras_norm(outputs),
            nn.ReLU(),
            dropout,
        )


class ResidualBlock(nn.Module):
    """The same convolutions beside a projection; dropout before, the last ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, dropout: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            keras_norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            keras_norm(outputs),
            dropout,
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), keras_norm(outputs))
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        return self.activation(self.branch(maps) + self.shortcut(maps))


class AttentionGate(nn.Module):
    """Weighs the places of a skip connection by what the deeper features say of them.

    Args:
        skip: channels of the skip connection, of the gate within, and of the result.
        deep: channels of the deeper features.
    """

    def __init__(self, skip: int, deep: int) -> None:
        super().__init__()
        self.signal = nn.Sequential(nn.Conv2d(deep, skip, 1), keras_norm(skip), nn.ReLU())
        self.theta = nn.Conv2d(skip, skip, 2, stride=2)
        self.phi = nn.Sequential(
            nn.Conv2d(skip, skip, 1), nn.ConvTranspose2d(skip, skip, 3, padding=1)
        )
        self.weights = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(skip, 1, 1),
            nn.Sigmoid(),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )
        self.result = nn.Sequential(nn.Conv2d(skip, skip, 1), keras_norm(skip))

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """``(B, skip, 2H, 2W)`` and ``(B, deep, H, W)`` to ``(B, skip, 2H, 2W)``."""
        weights = self.weights(self.theta(skip) + self.phi(self.signal(deep)))
        return self.result(skip * weights)


class UNet(nn.Module):
    """A U-Net with max-pooling down and nearest neighbours up.

    Args:
        in_channels: of the images.
        width: channels at full resolution; they double at every pooling.
        depth: number of poolings; sides of images are multiples of ``2**depth``.
        dropout: makes the dropout layer of a block.
        attention: put gates on the skip connections.
        residual: make blocks residual.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depth: int,
        dropout: Callable[[], nn.Module],
        attention: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        block = ResidualBlock if residual else ConvBlock
        widths = [width * 2**level for level in range(depth + 1)]
        levels = list(pairwise(widths))[::-1]
        self.encoder = nn.ModuleList(
            block(inputs, outputs, dropout())
            for inputs, outputs in pairwise([in_channels, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        self.gates = nn.ModuleList(AttentionGate(skip, deep) for skip, deep in levels if attention)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = nn.ModuleList(block(deep + skip, skip, dropout()) for skip, deep in levels)
        self.segmentation_head = nn.Sequential(nn.Conv2d(width, 1, 1))
        init_weights(self, "xavier")

    def forward(self, images: Tensor) -> Tensor:
        """``(B, in_channels, S, S)`` to logits ``(B, 1, S, S)``."""
        *down, bottom = self.encoder
        maps, skips = images, []
        for block in down:
            skips.append(block(maps))
            maps = self.pool(skips[-1])
        maps = bottom(maps)
        for level, block in enumerate(self.decoder):
            skip = skips.pop()
            if self.gates:
                skip = self.gates[level](skip, maps)
            maps = block(torch.cat([self.up(maps), skip], 1))
        return self.segmentation_head(maps)
