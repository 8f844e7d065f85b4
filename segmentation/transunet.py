"""TransUNet: a transformer on a convolutional backbone's last map, under a U-Net's decoder.

Chen et al. 2021, "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation"
(arXiv:2102.04306): the map's pixels are the tokens of a ViT; a 3x3 convolution leads from its width
back to the decoder. Theirs is ``model.backbone=resnet50 model.depth=4`` with ViT-B; the decoder
here is SMP's, whose blocks are as theirs, and the convolution leads back to the width of the
backbone's map.
"""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

LAYERS = 12
"""Of the transformer, as in all of ViT's sizes up to B."""

PER_WIDTH = 48
"""Channels of the transformer per channel of the decoder's finest map: ViT-Ti, -S and -B (192, 384
and 768 channels) at widths of 4, 8 and 16."""

HEAD = 64
"""Channels of an attention head, in all of ViT's sizes."""


class Bridge(nn.Module):
    """A map through a ViT and back to its shape.

    Args:
        channels: of the map.
        side: of the map of the images that the network is built for; for others the table of
            positions is resampled.
        width: channels of the ViT, a multiple of `HEAD`.
    """

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.transformer = VisionTransformer(
            img_size=side,
            patch_size=1,
            in_chans=channels,
            num_classes=0,
            global_pool="",
            embed_dim=width,
            depth=LAYERS,
            num_heads=width // HEAD,
            class_token=False,
            dynamic_img_size=True,
        )
        self.back = nn.Sequential(
            nn.Conv2d(width, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, channels, h, w)`` to the same shape."""
        tokens = self.transformer.forward_features(maps)
        return self.back(tokens.transpose(1, 2).unflatten(2, maps.shape[-2:]))


class TransUNet(smp.Unet):
    """SMP's U-Net with a transformer between its encoder and its decoder.

    Args:
        image_size: side of the images in pixels.
        transformer_width: channels of the transformer.
        settings: of SMP's U-Net.
    """

    def __init__(self, image_size: int, transformer_width: int, **settings: Any) -> None:
        super().__init__(**settings)
        side = image_size // self.encoder.output_stride
        self.bridge = Bridge(self.encoder.out_channels[-1], side, transformer_width)

    def bridged(self, maps: list[Tensor]) -> list[Tensor]:
        """The encoder's maps, the last one through the transformer."""
        *finer, last = maps
        return [*finer, self.bridge(last)]

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, S, S)`` to logits ``(B, 1, S, S)``."""
        return self.segmentation_head(self.decoder(self.bridged(self.encoder(images))))
