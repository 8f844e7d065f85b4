"""One backbone, a segmentation head and a detection head, on the parts of SMP and torchvision."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSRegressionHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork

from phasewise.config.help import not_one_of
from phasewise.config.targets import build
from phasewise.errors import UserError
from phasewise.networks.backbones import DEEPEST, build_backbone
from phasewise.networks.layers import init_weights, swap_activation, swap_norm
from phasewise.networks.parts import returned
from phasewise.networks.stages import AroundBackbone

UNET_WIDTHS = (256, 128, 64, 32, 16)
DEEPLAB_WIDTH = 256
PRIOR = 0.01
"""Probability of an object that the classifier starts from (Lin et al. 2017, section 4.1)."""


class Unet(nn.Module):
    """SMP's U-Net decoder (Ronneberger et al. 2015) down to full resolution."""

    def __init__(self, channels: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.decoder = UnetDecoder(channels, UNET_WIDTHS, n_blocks=len(UNET_WIDTHS))
        self.dropout = nn.Dropout2d(dropout)
        self.head = SegmentationHead(UNET_WIDTHS[-1], num_classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Six maps to logits ``(B, C, S, S)``."""
        return self.head(self.dropout(self.decoder(features)))


class Fcn(nn.Module):
    """FCN-8s (Long et al. 2015): torchvision's FCN head scores strides 32, 16 and 8, summed up."""

    def __init__(self, channels: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.heads = nn.ModuleList(FCNHead(c, num_classes) for c in channels[3:])
        for head in self.heads:
            assert isinstance(head, FCNHead)
            head[3] = nn.Dropout2d(dropout)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Six maps to logits ``(B, C, S, S)``."""
        scores = [head(f) for head, f in zip(self.heads, features[3:], strict=True)]
        total = scores.pop()
        for finer in reversed(scores):
            total = finer + F.interpolate(total, finer.shape[-2:], mode="bilinear")
        return F.interpolate(total, features[0].shape[-2:], mode="bilinear")


class DeepLabV3Plus(nn.Module):
    """SMP's DeepLabV3+ decoder (Chen et al. 2018).

    The backbone keeps its stride of 32, since detection shares it; its last map is brought to the
    stride of 16 that the decoder is made for by interpolation instead of dilation.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.decoder = DeepLabV3PlusDecoder(
            channels,
            encoder_depth=5,
            out_channels=DEEPLAB_WIDTH,
            atrous_rates=(12, 24, 36),
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=dropout,
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = SegmentationHead(DEEPLAB_WIDTH, num_classes, kernel_size=1, upsampling=4)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Six maps to logits ``(B, C, S, S)``."""
        last = F.interpolate(features[-1], features[-2].shape[-2:], mode="bilinear")
        return self.head(self.dropout(self.decoder([*features[:-1], last])))


class Points(NamedTuple):
    """Where the detection head predicts: ``P`` points over all levels.

    ``xy`` (P, 2): centres in pixels. ``stride`` (P,): of the point's level, in pixels. ``low`` and
    ``high`` (P,): a level takes care of objects whose farthest side is low to high pixels away.
    """

    xy: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


class FpnDetector(nn.Module):
    """FCOS (Tian et al. 2019, arXiv:1904.01355) on a feature pyramid of strides 8, 16 and 32.

    Pyramid and towers are torchvision's. Distances to the four sides are predicted in strides
    through a softplus, so that every box has x2 > x1 and y2 > y1. A level takes objects of up to 4
    strides (the last one, any), half of what the paper takes, since images here are far below 800
    pixels.

    Args:
        channels: of the backbone's six maps.
        num_classes: with background, which the head does not predict.
        width: channels of pyramid and towers, a multiple of 32.
        depth: convolutions in each tower.
        dropout: rate after each tower.
    """

    strides = (8, 16, 32)
    reach = 4
    smallest = 0.01
    """Least distance to a side, in strides: also where softplus underflows, a box has an area."""

    def __init__(
        self, channels: Sequence[int], num_classes: int, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(list(channels[3:]), width)
        self.classifier = FCOSClassificationHead(width, 1, num_classes - 1, depth, PRIOR)
        self.regressor = FCOSRegressionHead(width, 1, depth)
        self.classifier.conv.append(nn.Dropout2d(dropout))
        self.regressor.conv.append(nn.Dropout2d(dropout))

    def reset_prior(self) -> None:
        """Bias the classifier towards background again, after its weights were drawn anew."""
        nn.init.normal_(self.classifier.cls_logits.weight, std=0.01)
        nn.init.constant_(self.classifier.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Six maps to ``class_logits (B, P, K)``, ``ltrb (B, P, 4)`` > 0 in strides, and
        ``centerness (B, P)``."""
        named = OrderedDict((str(i), f) for i, f in enumerate(features[3:]))
        levels = list(self.pyramid(named).values())
        towers = [self.regressor.conv(level) for level in levels]
        sides = torch.cat([self.regressor.bbox_reg(t).flatten(2) for t in towers], 2)
        center = torch.cat([self.regressor.bbox_ctrness(t).flatten(2) for t in towers], 2)
        return {
            "class_logits": self.classifier(levels),
            "ltrb": F.softplus(sides.transpose(1, 2).float()) + self.smallest,
            "centerness": center.squeeze(1),
        }

    @classmethod
    def points(cls, image_size: int, device: torch.device) -> Points:
        """The points for square images of ``image_size`` pixels, in the order of `forward`: the
        cells of the finest level row by row, then those of the next one."""
        parts = []
        for i, stride in enumerate(cls.strides):
            centres = (torch.arange(image_size // stride, device=device) + 0.5) * stride
            y, x = torch.meshgrid(centres, centres, indexing="ij")
            xy = torch.stack([x.flatten(), y.flatten()], 1)
            last = i == len(cls.strides) - 1
            limits = (
                float(stride),
                0.0 if i == 0 else cls.reach * stride / 2,
                math.inf if last else float(cls.reach * stride),
            )
            parts.append((xy, *(xy.new_full((len(xy),), value) for value in limits)))
        return Points(*(torch.cat(column) for column in zip(*parts, strict=True)))


class OwnDetector(nn.Module):
    """A detection head of somebody's own, whose outputs are looked at.

    Args:
        head: takes the list of six maps to what `FpnDetector.forward` gives. P are the points of
            `FpnDetector.points`, or those that its own method ``points`` gives, of the same form.
        num_classes: with background, which the head does not predict.
    """

    def __init__(self, head: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.head = head
        self.num_classes = num_classes

    def points(self, image_size: int, device: torch.device) -> Points:
        """See `FpnDetector.points`."""
        own: Any = getattr(self.head, "points", FpnDetector.points)
        return Points(*own(image_size, device))

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """See `FpnDetector.forward`.

        Raises:
            UserError: it gives something else.
        """
        found = self.head(features)
        batch, size = len(features[0]), features[0].shape[-1]
        count = len(self.points(size, features[0].device).xy)
        shapes = {
            "class_logits": (batch, count, self.num_classes - 1),
            "ltrb": (batch, count, 4),
            "centerness": (batch, count),
        }
        if not isinstance(found, Mapping) or {*found} != {*shapes}:
            what = (
                ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            )
            raise UserError(
                f"detection_head: {type(self.head).__name__} returned {what}; wanted is a dict of "
                f"{', '.join(shapes)}"
            )
        for name, shape in shapes.items():
            letters = "(B, P, K)" if name == "class_logits" else f"(B, P{', 4' * len(shape[2:])})"
            meaning = f"{name} {letters}"
            returned(found[name], shape, meaning, by=self.head, where="detection_head")
        return dict(found)


SEGMENTATION_HEADS = {"unet": Unet, "fcn": Fcn, "deeplabv3plus": DeepLabV3Plus}


class MultitaskNetwork(AroundBackbone):
    """A backbone with the heads that are asked for.

    Args:
        num_classes: with background as class 0.
        image_size: side of the images in pixels, a multiple of 32.
        backbone, pretrained: see `phasewise.networks.backbones.build_backbone`.
        segmentation_head: ``unet``, ``fcn``, ``deeplabv3plus`` or ``none``; or one of somebody's
            own, a mapping of ``_target_`` and its arguments: it is called with the channels of the
            six maps and ``num_classes`` before these, and takes the list of maps, of which each has
            half the side of the one before, to logits (B, C, S, S).
        detection_head: ``fpn`` or ``none``; or one of somebody's own, a mapping as above: it is
            called with the channels of the six maps and ``num_classes``, see `OwnDetector`.
        activation, norm, init_scheme: see `phasewise.networks.layers`. With pretrained weights, the
            backbone keeps its norms and weights; only the heads are changed and drawn anew.
        dropout_rate: of both heads.
        drop_path_rate: of the backbone, see `phasewise.networks.backbones.drop_path`.
        head_channels, head_depth: width and depth of the detection head.

    Raises:
        UserError: there is no such head, the size does not fit, or the backbone cannot be built.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        backbone: str,
        pretrained: bool | str,
        segmentation_head: str | Mapping[str, Any],
        detection_head: str | Mapping[str, Any],
        activation: str,
        init_scheme: str,
        norm: str,
        dropout_rate: float,
        head_channels: int,
        head_depth: int,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check_heads(image_size, segmentation_head, detection_head)
        self.backbone = build_backbone(
            backbone, image_size, pretrained, drop_path_rate=drop_path_rate
        )
        channels: list[int] = list(self.backbone.out_channels)  # type: ignore[arg-type]
        self.segmentation: nn.Module | None = None
        self.detection: FpnDetector | OwnDetector | None = None
        if isinstance(segmentation_head, Mapping):
            self.segmentation = _own_head(
                "segmentation_head", segmentation_head, channels, num_classes
            )
        elif segmentation_head != "none":
            head = SEGMENTATION_HEADS[segmentation_head]
            self.segmentation = head(channels, num_classes, dropout_rate)
        if isinstance(detection_head, Mapping):
            own = _own_head("detection_head", detection_head, channels, num_classes)
            self.detection = OwnDetector(own, num_classes)
        elif detection_head != "none":
            self.detection = FpnDetector(
                channels, num_classes, head_channels, head_depth, dropout_rate
            )
        for part in self.children():
            if part is not self.backbone or not pretrained:
                swap_norm(part, norm)
                init_weights(part, init_scheme)
        swap_activation(self, activation)
        if isinstance(self.detection, FpnDetector):
            self.detection.reset_prior()
        # Convolutions on channels-last tensors are 1.6 times as fast on CPU, and what GPUs want.
        self.to(memory_format=torch.channels_last)

    @property
    def last_shared_weight(self) -> nn.Parameter:
        """The last weight that all tasks share, where GradNorm measures gradients."""
        # What a ViT's pyramid adds leads to some of the maps only, and so to some of the heads.
        added = getattr(self.backbone, "added", ())
        named = self.backbone.named_parameters()
        return [p for name, p in named if p.ndim > 1 and not name.startswith(added)][-1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, 3, S, S)`` to ``segmentation (B, C, S, S)`` and `FpnDetector.forward`'s outputs."""
        features = self.maps(images.contiguous(memory_format=torch.channels_last))
        out = {}
        if self.segmentation is not None:
            out["segmentation"] = self.segmentation(features)
        if self.detection is not None:
            out |= self.detection(features)
        return out


def _own_head(
    key: str, node: Mapping[str, Any], channels: list[int], num_classes: int
) -> nn.Module:
    made: nn.Module = build(node, channels, num_classes, where=key, kind=nn.Module)
    return made


def _check_heads(image_size: int, segmentation_head: Any, detection_head: Any) -> None:
    if image_size < DEEPEST or image_size % DEEPEST:
        raise UserError(f"image_size={image_size}: must be a multiple of {DEEPEST}")
    for key, head, known in (
        ("segmentation_head", segmentation_head, (*SEGMENTATION_HEADS, "none")),
        ("detection_head", detection_head, ("fpn", "none")),
    ):
        if not isinstance(head, Mapping) and head not in known:
            raise UserError(f"{key}={head}: {not_one_of(head, known)}")
