"""Networks and what tests of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from phasewise.errors import UserError
from reid.networks import ReidNetwork

SIZE = 64
CLASSES = 5
TINY = "test_resnet"  # timm's smallest


def make_network(**settings: Any) -> ReidNetwork:
    known: dict[str, Any] = {
        "backbone": TINY,
        "pretrained": False,
        "last_stride": None,
        "embedding_dim": None,
        "neck": "none",
        "pooling": "avg",
        "activation": "native",
        "init_scheme": "native",
        "norm": "batch",
        "dropout_rate": 0.0,
    }
    return ReidNetwork(CLASSES, SIZE, **{**known, **settings})


def make_images(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def liven(module: nn.Module) -> None:
    """Give every norm statistics and weights of its own, so that none can be mistaken."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
            norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]


def refusal(build: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        build()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def small_vit(name: str, image_size: int) -> VisionTransformer:
    """In the place of torchvision's, which take seconds to draw."""
    assert name == "vit_b_16"
    torch.manual_seed(1)
    vit = VisionTransformer(image_size, 16, 2, 2, 32, 64)
    nn.init.normal_(vit.encoder.pos_embedding)
    return vit
