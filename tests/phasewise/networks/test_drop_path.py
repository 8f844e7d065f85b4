"""``model.drop_path_rate``: stochastic depth of timm's networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from timm.layers import DropPath
from torch import nn

from localization.module import LocalizationModule
from multitask.module import MultitaskModule
from phasewise.errors import UserError
from phasewise.networks.backbones import build_backbone
from phasewise.training.module import TaskModule
from reid.module import ReidModule
from segmentation.module import SegmentationModule

TIMM = "test_resnet"

MAKE: dict[str, Callable[..., TaskModule]] = {
    "multitask": lambda **more: MultitaskModule(
        class_names=["background", "a"], image_size=32, dropout_rate=0.0, **more
    ),
    "localization": lambda **more: LocalizationModule(
        image_size=32, stride=32, dropout_rate=0.0, **more
    ),
    "segmentation": lambda **more: SegmentationModule(
        image_size=32, architecture="smp_unet", **more
    ),
    "reid": lambda **more: ReidModule(num_classes=3, image_size=32, **more),
}


def rates(network: nn.Module) -> list[float]:
    return [part.drop_prob for part in network.modules() if isinstance(part, DropPath)]


@pytest.mark.parametrize("task", MAKE)
def test_it_drops_branches_in_training_alone(task: str) -> None:
    made = []
    for more in ({}, {"drop_path_rate": 0.0}, {"drop_path_rate": 0.9}):
        torch.manual_seed(0)
        made.append(MAKE[task](backbone=TIMM, **more))
    plain, zero, deep = (module.network for module in made)
    assert rates(plain) == rates(zero) == []
    assert max(rates(deep)) == pytest.approx(0.9)
    assert rates(deep) == sorted(rates(deep))  # deeper branches are dropped more often
    for network in (zero, deep):  # the same weights from the same draws
        for name, value in plain.state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name
    for network in (plain, deep):  # timm's residual branches start at zero, as if dropped
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.ones_(part.weight)
    images = torch.randn(4, 3, 32, 32)
    outputs = [_flat(network.eval()(images)) for network in (plain, deep)]
    assert torch.equal(*outputs)
    torch.manual_seed(1)
    trained = [_flat(network.train()(images)) for network in (plain, deep, deep)]
    assert not torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[1], trained[2])


def _flat(found: Any) -> torch.Tensor:
    if isinstance(found, torch.Tensor):
        return found.flatten()
    values = found.values() if isinstance(found, dict) else found
    return torch.cat([_flat(value) for value in values])


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 160), ("test_convnext", 64), ("test_efficientnet", 64)]
)
def test_other_families_have_it(name: str, size: int) -> None:
    assert max(rates(build_backbone(name, size, drop_path_rate=0.3))) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "is SMP's, without stochastic depth"),
        ("inception_v4", "has no stochastic depth in timm"),  # no such argument
        ("hrnet_w18_small", "has no stochastic depth in timm"),  # an argument without effect
    ],
)
def test_what_has_nothing_to_drop_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"model.drop_path_rate=0.1: {name} {reason}"):
        build_backbone(name, 64, drop_path_rate=0.1)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("task=multitask",), "resnet18 is SMP's"),
        (("task=localization",), "resnet18 is SMP's"),
        (("task=reid",), "resnet18 is torchvision's here"),
        (("task=segmentation",), "model.architecture=unet has no backbone"),
        (("task=segmentation", "model.architecture=fpn"), "resnet18 is SMP's"),
    ],
)
def test_a_config_is_refused_before_anything_runs(
    words: tuple[str, ...], reason: str, make_config: Callable[..., DictConfig]
) -> None:
    with pytest.raises(UserError, match=f"model.drop_path_rate=0.2: {reason}"):
        make_config(*words, "model.drop_path_rate=0.2")
