"""One backbone, a pooled embedding, and a classifier over the identities of the training set."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from phasewise.config.help import not_one_of
from phasewise.config.targets import build
from phasewise.errors import UserError
from phasewise.networks.layers import init_weights, swap_activation, swap_norm
from phasewise.networks.parts import returned
from phasewise.networks.stages import AroundBackbone
from reid.attention import ADDED
from reid.backbone_names import NAMED, Variant
from reid.backbones import build_backbone
from reid.pooling import POOLINGS

NECKS = ("none", "bnneck")

FC_WIDTH = 512
"""Of the feature of backbones called ``_fc512``."""

CLASSIFIER_STD = 0.001
"""Of the classifier's first weights (Luo et al. 2019)."""


def projection(width: int, embedding_dim: int) -> nn.Sequential:
    """Linear, batch norm and ReLU, as the ``_fc512`` variants of torchreid have it; no bias, since
    the norm has one."""
    return nn.Sequential(
        nn.Linear(width, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim), nn.ReLU()
    )


def bnneck(width: int) -> nn.BatchNorm1d:
    """Batch norm whose shift stays 0, so that features lie around the origin: Luo et al., "Bag of
    Tricks and a Strong Baseline for Deep Person Re-identification" (2019), section 3.6."""
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad_(False)
    return neck


class OwnVectors(nn.Module):
    """A pooling or a neck of somebody's own, whose vectors are looked at.

    Args:
        part: maps float32 (B, C, H, W), of a pooling, or (B, C), of a neck, to (B, C).
        key: in the config, for messages.
    """

    def __init__(self, part: nn.Module, key: str) -> None:
        super().__init__()
        self.part = part
        self.key = key

    def forward(self, values: Tensor) -> Tensor:
        """See above.

        Raises:
            UserError: it gives something else.
        """
        return returned(
            self.part(values), values.shape[:2], "vectors (B, C)", by=self.part, where=self.key
        )


def _full_precision(device: torch.device) -> AbstractContextManager:
    available = torch.amp.is_autocast_available(device.type)
    if available and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # nothing to leave; in a graph to export it would only be in the way


class ReidNetwork(AroundBackbone):
    """Images to features that are near each other if the identity is the same.

    Args:
        num_classes: identities of the training set.
        image_size: side of the images in pixels.
        backbone, pretrained: see `reid.backbones.build_backbone`. Feature sizes: resnet18 and
            resnet34 512, resnet50 2048, mobilenet_v3_small 576, mobilenet_v2 1280, vit_b_16 768,
            vgg16 512, pooled (flattened, as its classifier takes it, it is 25,088).
        last_stride: stride of the last stage, 1 or 2; None is 1 for ``_fc512``, else 2.
        embedding_dim: None keeps the backbone's width (512 for ``_fc512``); a number adds a linear
            layer to that width with batch norm and ReLU. There is one such layer at most: for
            ``_fc512``, the number replaces the 512.
        neck: ``none``, or ``bnneck``: the embedding goes to the metric loss, and through a batch
            norm to the classifier and to retrieval; or one of somebody's own in the norm's place, a
            mapping of ``_target_`` and its arguments: it is called with the width of the embedding
            before these, see `OwnVectors`.
        pooling: ``avg``, ``max`` or ``gem`` of the last map (of a transformer, its patches'
            tokens), or ``native``, what the backbone's own classifier takes: the average, or a
            class token; or one of somebody's own: it is called with the channels of the map, see
            `OwnVectors`.
        activation, norm, init_scheme: see `phasewise.networks.layers`. With pretrained weights, the
            backbone keeps its norms and weights; only what is added to it is changed and drawn
            anew. The norms of vectors stay batch norms.
        dropout_rate: between the feature and the classifier. Neither the metric loss nor retrieval
            sees it.
        drop_path_rate: of timm's backbones, see `phasewise.networks.backbones.drop_path`.

    Raises:
        UserError: no such neck or pooling; or see `reid.backbones.build_backbone`.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        backbone: str,
        pretrained: bool | str,
        last_stride: int | None,
        embedding_dim: int | None,
        neck: str | Mapping[str, Any],
        pooling: str | Mapping[str, Any],
        activation: str,
        init_scheme: str,
        norm: str,
        dropout_rate: float,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for key, value, known in (("neck", neck, NECKS), ("pooling", pooling, POOLINGS)):
            if not isinstance(value, Mapping) and value not in known:
                raise UserError(f"model.{key}={value}: {not_one_of(value, known)}")
        variant = NAMED.get(backbone, Variant(backbone))
        self.backbone, width = build_backbone(
            backbone,
            image_size,
            pretrained=pretrained,
            last_stride=last_stride or (1 if variant.fc512 else 2),
            pooling=pooling if isinstance(pooling, str) else "avg",
            drop_path_rate=drop_path_rate,
        )
        self.pool = (
            _own("pooling", pooling, width) if isinstance(pooling, Mapping) else POOLINGS[pooling]()
        )
        embedding_dim = embedding_dim or (FC_WIDTH if variant.fc512 else None)
        self.embedding_dim = embedding_dim or width
        self.projection = projection(width, embedding_dim) if embedding_dim else nn.Identity()
        self.neck: nn.Module = nn.Identity()
        if isinstance(neck, Mapping):
            self.neck = _own("neck", neck, self.embedding_dim)
        elif neck == "bnneck":
            self.neck = bnneck(self.embedding_dim)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(self.embedding_dim, num_classes, bias=False)
        for part in (self.projection, *self._drawn(bool(pretrained))):
            swap_norm(part, norm)
            init_weights(part, init_scheme)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        swap_activation(self, activation)
        # Convolutions on channels-last tensors are 1.6 times as fast on CPU, and what GPUs want.
        self.to(memory_format=torch.channels_last)

    def _drawn(self, pretrained: bool) -> list[nn.Module]:
        """The parts of the backbone whose weights are new."""
        if not pretrained:
            return [self.backbone]
        return [part for part in self.backbone.modules() if isinstance(part, ADDED)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, 3, S, S)`` to vectors, all float32.

        Returns:
            ``embedding`` (B, E), what the metric loss sees; ``feature`` (B, E), what retrieval
            uses; in training mode also ``logits`` (B, num_classes), before the softmax.
        """
        maps = self.maps(images.contiguous(memory_format=torch.channels_last))
        # Ranks hang on small differences between distances, so half precision ends here.
        with _full_precision(images.device):
            embedding = self.projection(self.pool(maps.float()))
            feature = self.neck(embedding)
            out = {"embedding": embedding, "feature": feature}
            if self.training:
                out["logits"] = self.classifier(self.dropout(feature))
        return out


def _own(key: str, node: Mapping[str, Any], width: int) -> OwnVectors:
    where = f"model.{key}"
    return OwnVectors(build(node, width, where=where, kind=nn.Module), where)
