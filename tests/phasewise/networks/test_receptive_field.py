from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from phasewise.networks.backbones import build_backbone
from phasewise.networks.receptive_field import receptive_field
from segmentation.unet import UNet


def _unet_by_hand(depth: int) -> int:
    """By the interval of pixels that each layer of a U-Net looks at, from the output back.

    Two 3x3 convolutions per level (a pixel each way, twice), nearest neighbours up, 2x2 down.
    """
    low = high = 0
    for _ in range(depth):  # the decoder, up to the bottom
        low, high = (low - 2) // 2, (high + 2) // 2
    for _ in range(depth):  # the encoder, down to the image
        low, high = (low - 2) * 2, (high + 2) * 2 + 1
    return high - low + 5


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_unet_by_hand(depth: int) -> None:
    network = UNet(1, 1, depth, nn.Identity)
    assert receptive_field(network, 1, 2**depth, 32) == _unet_by_hand(depth)


def test_unet_of_depth_four_sees_what_is_known_of_it() -> None:
    """188 pixels, as is often said of Ronneberger's, layer by layer:

    1 -2 convolutions-> 5 -up-> 3 -> 7 -> 4 -> 8 -> 4 -> 8 -> 4 -> 8 -pool-> 16 -> 20 -> 40 -> 44
    -> 88 -> 92 -> 184 -> 188.
    """
    assert _unet_by_hand(4) == 188
    assert receptive_field(UNet(3, 2, 4, nn.Identity, attention=False), 3, 16, 256) == 188


@pytest.mark.parametrize("width", [1, 3, 8])
def test_width_weights_norms_and_gates_do_not_matter(width: int) -> None:
    for residual in (False, True):
        network = UNet(3, width, 3, lambda: nn.Dropout(0.5), residual=residual)
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        assert receptive_field(network, 3, 8, 64) == _unet_by_hand(3)
        assert network.training  # it is a copy that was changed
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([nn.Conv2d(2, 3, 1)], 1),
        ([nn.Conv2d(2, 3, 5, padding=2), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1)], 7),
        ([nn.Conv2d(2, 3, 3, padding=4, dilation=4)], 9),
        ([nn.MaxPool2d(3, 1, 1), nn.InstanceNorm2d(2), nn.MaxPool2d(5, 1, 2)], 7),
        ([nn.Conv2d(2, 2, 3, padding=1, groups=2), nn.GELU(), nn.GroupNorm(1, 2)], 3),
        ([nn.Conv2d(2, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 2, stride=2)], 2),
        ([nn.Conv2d(2, 2, 3, padding=1)] * 60, 121),  # neither vanishes nor overflows
    ],
)
def test_layers_by_hand(layers: list[nn.Module], wanted: int) -> None:
    assert receptive_field(nn.Sequential(*layers), 2, 8, 32) == wanted


@pytest.mark.parametrize(
    ("name", "step", "wanted"),
    [("resnet18", 32, 435), ("resnet34", 32, 899), ("mobilenet_v2", 32, 491)],
)
def test_published_fields_of_backbones(name: str, step: int, wanted: int) -> None:
    """Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks"
    (distill.pub), have 435, 899 and 491."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = build_backbone(name, 64)

        def forward(self, images: Tensor) -> Tensor:
            last = self.backbone(images)[-1].mean(1)
            return last.repeat_interleave(step, 1).repeat_interleave(step, 2)

    assert receptive_field(Last(), 3, step, 64) == wanted


class _Pooled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images + images.mean((2, 3), keepdim=True)


class _Picky(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == images.shape[-2]
        return images


def test_what_sees_everything_and_what_cannot_be_told() -> None:
    assert receptive_field(_Pooled(), 1, 32, 256) == 1024
    assert receptive_field(_Pooled(), 1, 32, 2000) == 2048
    assert receptive_field(_Picky(), 1, 32, 256) is None
    assert receptive_field(nn.Threshold(2.0, 0.0), 1, 32, 256) is None


def test_it_costs_little() -> None:
    network = UNet(3, 1, 5, nn.Identity)
    start = time.process_time()
    receptive_field(network, 3, 32, 512)
    assert time.process_time() - start < 2
