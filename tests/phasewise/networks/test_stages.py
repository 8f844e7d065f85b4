"""Stages of backbones, and backbones that are kept as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phasewise.networks.backbones import ViTPyramid, build_backbone
from phasewise.networks.stages import AroundBackbone, groups_by_stage, stages
from reid.backbones import build_backbone as build_reid_backbone
from segmentation.networks import SegmentationNetwork


class Small(AroundBackbone):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2)


def segmentation(architecture: str) -> SegmentationNetwork:
    return SegmentationNetwork(
        64,
        architecture=architecture,
        backbone="test_resnet" if architecture not in ("unet", "nnunet") else None,
        pretrained=False,
        in_channels=3,
        width=4,
        depth=None,
        activation="native",
        init_scheme="native",
        norm="batch",
        norm_momentum=0.1,
        dropout_rate=0.0,
        dropout_type="element",
        head_norm=False,
    )


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "test_resnet", "test_vit"])
def test_every_weight_of_a_backbone_is_of_one_stage(name: str) -> None:
    backbone = build_backbone(name, 64)
    found = [p for stage in stages(backbone) for p in stage]
    new = tuple(getattr(backbone, "added", ()))
    names = [key for key, _ in backbone.named_parameters() if not (new and key.startswith(new))]
    assert len(found) == len({*found}) == len(names)
    assert len(stages(backbone)) >= 4


@pytest.mark.parametrize("name", ["resnet18_se", "mobilenet_v3_small", "test_vit"])
def test_stages_of_backbones_of_reid(name: str) -> None:
    backbone, _ = build_reid_backbone(name, 64)
    found = [p for stage in stages(backbone) for p in stage]
    assert len(found) == len({*found})
    assert len(stages(backbone)) >= 4
    if name == "resnet18_se":  # what was added to ResNet-18 is new
        count = sum(1 for _ in build_reid_backbone("resnet18", 64)[0].parameters())
        assert len(found) == count < sum(1 for _ in backbone.parameters())


def test_each_stage_has_its_rate_and_options_are_kept() -> None:
    """By hand, of a network whose stages are known: ResNet-18's stem and its four layers."""
    network = Small(build_backbone("resnet18", 64))
    balance = nn.Parameter(torch.zeros(2))
    groups = groups_by_stage(
        [{"params": list(network.parameters())}, {"params": [balance], "weight_decay": 0.0}],
        network.backbone,
        lr=0.2,
        backbone_lr_factor=0.5,
        layer_decay=0.1,
    )
    assert [group["lr"] for group in groups] == pytest.approx(
        [0.2, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 0.2]
    )
    assert groups[0]["params"] == list(network.head.parameters())
    layers = [getattr(network.backbone, f"layer{i}") for i in (4, 3, 2, 1)]
    for layer, group in zip(layers, groups[1:5], strict=True):
        assert {*group["params"]} == {*layer.parameters()}
    assert groups[5]["params"][0] is network.backbone.conv1.weight  # type: ignore[union-attr]
    assert groups[6] == {"params": [balance], "weight_decay": 0.0, "lr": 0.2}


def test_new_parts_of_a_transformers_pyramid_learn_with_the_head() -> None:
    network = Small(ViTPyramid("test_vit", 64))
    groups = groups_by_stage(
        [{"params": list(network.parameters())}],
        network.backbone,
        lr=1.0,
        backbone_lr_factor=0.5,
        layer_decay=0.5,
    )
    fast = {*groups[0]["params"]}
    assert {*network.backbone.up4.parameters(), *network.head.parameters()} <= fast  # type: ignore[union-attr]
    assert not fast & {*network.backbone.model.parameters()}  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["smp_unet", "fpn", "deeplabv3plus", "transunet"])
def test_a_frozen_backbone_changes_no_output_and_gets_no_gradient(architecture: str) -> None:
    network = segmentation(architecture).eval()
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    network.freeze_backbone(True)
    after = network(images)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    network.train()
    backbone = network.inner_backbone()
    assert backbone is not None
    assert not backbone.training
    network(images).sum().backward()
    inside = {id(p) for p in backbone.parameters()}
    assert all(p.grad is None for p in backbone.parameters())
    assert any(p.grad is not None for p in network.parameters() if id(p) not in inside)
    network.freeze_backbone(False)
    network(images).sum().backward()
    assert any(p.grad is not None for p in backbone.parameters())


def test_networks_of_ours_have_no_backbone() -> None:
    assert segmentation("unet").inner_backbone() is None
