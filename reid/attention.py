"""What is added to ResNets: squeeze-and-excitation and non-local blocks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import SqueezeExcitation

REDUCTION = 16
"""Channels of a block / width of its excitation (Hu et al. 2018, section 3.3)."""


class Excitation(SqueezeExcitation):
    """Squeeze-and-excitation (Hu et al., "Squeeze-and-Excitation Networks", 2018) as it is added
    here: a class of its own tells it from those that networks have from home."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels // REDUCTION)


class SEBasicBlock(BasicBlock):
    """A basic block whose residual branch is scaled channel by channel before the addition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.se = Excitation(self.conv2.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same, or to half the sides and another width."""
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.se(self.bn2(self.conv2(branch)))
        return self.relu(branch + shortcut)


class SEBottleneck(Bottleneck):
    """A bottleneck block whose residual branch is scaled channel by channel before the addition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.se = Excitation(self.conv3.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same, or to half the sides and another width."""
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.se(self.bn3(self.conv3(branch)))
        return self.relu(branch + shortcut)


class NonLocal(nn.Module):
    """Self-attention between all places of a map: ``x + BN(W softmax(theta(x)' phi(x)) g(x))``.

    Wang et al., "Non-local Neural Networks" (2018, arXiv:1711.07971): embedded Gaussian (equation
    4), half the channels inside, and a last batch norm that starts from 0 (section 4.1), so that a
    network is at first what it was without the block.

    Args:
        channels: of the map, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.w = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        query, key, value = (  # of one head: (B, 1, places, channels)
            f(x).flatten(2).transpose(1, 2)[:, None] for f in (self.theta, self.phi, self.g)
        )
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        seen = seen[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.bn(self.w(seen))


ADDED = (Excitation, NonLocal)
"""What no weights file of the plain network has."""
