from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from reid.backbone_names import NAMED, is_backbone, torchvision_names
from reid.backbones import build_backbone
from tests.reid.nets import (
    CLASSES,
    SIZE,
    TINY,
    count,
    liven,
    make_images,
    make_network,
    refusal,
    small_vit,
)

WIDTHS = {
    "mobilenet_v3_small": 576,
    "mobilenet_v2": 1280,
    "vgg16": 512,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "vit_b_16": 768,
}
CONVOLUTIONAL = [
    "mobilenet_v3_small",
    "mobilenet_v2",
    "vgg16",
    "resnet18",
    "resnet34_fc512",
    "resnet50_se",
    "resnet18_nonlocal",
    "efficientnet_b0",
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


# Names


def test_names_are_told_without_torch() -> None:
    code = (
        "import sys; from reid.backbone_names import is_backbone; "
        "assert is_backbone('resnet18_fc512_se') and is_backbone('swin_t'); "
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_torchvision_names_are_its_registry() -> None:
    registry = set(torchvision.models.list_models(module=torchvision.models))
    assert torchvision_names() == registry - {"googlenet"}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("resnet34_se", True),
        ("resnet18_nonlocal", True),
        ("convnext_atto", True),
        ("resnet18.a1_in1k", True),
        ("shufflenet_v2_x0_5", True),
        ("resnet18_se_fc512", False),
        ("vgg16_fc512", False),
        ("googlenet", False),
        ("", False),
    ],
)
def test_is_backbone(name: str, known: bool) -> None:
    assert is_backbone(name) is known


def test_every_resnet_has_its_variants() -> None:
    for body in ("resnet18", "resnet34", "resnet50"):
        for suffix in ("", "_fc512", "_se", "_fc512_se"):
            assert NAMED[body + suffix].body == body


# Shapes and sizes


@pytest.mark.parametrize("name", NAMED)
def test_every_named_backbone(name: str) -> None:
    body = NAMED[name].body
    with torch.device("meta"):
        network = make_network(backbone=name)
        out = network.train()(make_images())
        reference = torchvision.models.get_model(body)
    width = 512 if "fc512" in name else WIDTHS[body]
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        "embedding": (2, width),
        "feature": (2, width),
        "logits": (2, CLASSES),
    }
    assert network.embedding_dim == width
    if not NAMED[name].attention:
        heads = ("fc", "classifier", "heads")
        own = sum(count(part) for key, part in reference.named_children() if key not in heads)
        if body == "vit_b_16":
            own += reference.class_token.numel()
            own -= (224**2 - SIZE**2) // 16**2 * 768  # places in the table of positions
        assert count(network.backbone) == own
    else:
        # Hu et al., equation 5 and two biases; Wang et al., figure 2
        plain = count(reference) - count(reference.fc)
        blocks = {"resnet18": [2] * 4, "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}[body]
        widths = [64, 128, 256, 512] if body != "resnet50" else [256, 512, 1024, 2048]
        added = sum(
            n * (2 * c * c // 16 + c // 16 + c) for n, c in zip(blocks, widths, strict=True)
        )
        if NAMED[name].attention == "nonlocal":
            added = 3 * (256 * 128 + 128) + 128 * 256 + 2 * 256
        assert count(network.backbone) == plain + added
    added = width * WIDTHS[body] + 2 * width if "fc512" in name else 0
    assert count(network) == count(network.backbone) + added + width * CLASSES


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "mobilenet_v2"])
def test_features_are_torchvisions_before_its_classifier(name: str) -> None:
    network = make_network(backbone=name).eval()
    reference = torchvision.models.get_model(name).eval()
    liven(reference)
    state = reference.state_dict()
    loaded = network.backbone.load_state_dict(state, strict=False)
    assert loaded.missing_keys == []
    heads = ("fc.", "classifier.")
    assert all(key.startswith(heads) for key in loaded.unexpected_keys)
    images = make_images()
    if name == "resnet18":
        reference.fc = nn.Identity()
        expected = reference(images)
    else:
        expected = F.adaptive_avg_pool2d(reference.features(images), 1).flatten(1)
    with torch.no_grad():
        out = network(images)
    torch.testing.assert_close(out["feature"], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(out["embedding"], out["feature"])


def test_summaries_of_a_vision_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.models, "get_model", small_vit)
    reference = small_vit("vit_b_16", SIZE).eval()
    reference.heads = nn.Identity()  # type: ignore[assignment]
    images = make_images()
    tokens: list[Tensor] = []
    reference.encoder.register_forward_hook(lambda module, inputs, out: tokens.append(out))
    with torch.no_grad():
        class_token = reference(images)
        native, avg, top = (
            make_network(backbone="vit_b_16", pooling=pooling).eval()(images)["feature"]
            for pooling in ("native", "avg", "max")
        )
    torch.testing.assert_close(native, class_token)
    torch.testing.assert_close(avg, tokens[0][:, 1:].mean(1))
    torch.testing.assert_close(top, tokens[0][:, 1:].amax(1))
    maps = build_backbone("vit_b_16", SIZE)[0].eval()(images)
    # Row by row, as in the image.
    torch.testing.assert_close(maps[:, :, 1, 2], tokens[0][:, 1 + 1 * 4 + 2])


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        (TINY, lambda maps: maps.mean((2, 3))),
        ("test_mambaout", lambda maps: maps.mean((1, 2))),  # channels last
        ("test_vit", lambda tokens: tokens[:, 1:].mean(1)),
    ],
)
def test_timm_networks(name: str, mean: Callable[[Tensor], Tensor]) -> None:
    sized = {} if name != "test_vit" else {"img_size": SIZE}
    reference = timm.create_model(name, num_classes=0, **sized).eval()
    images = make_images()
    found = {}
    with torch.no_grad():
        for pooling in ("native", "avg"):
            network = make_network(backbone=name, pooling=pooling).eval()
            network.backbone.model.load_state_dict(reference.state_dict())  # type: ignore[operator, union-attr]
            found[pooling] = network(images)["feature"]
        torch.testing.assert_close(found["native"], reference(images), atol=1e-5, rtol=1e-4)
        bare = timm.create_model(name, num_classes=0, global_pool="", **sized).eval()
        bare.load_state_dict(reference.state_dict())
        expected = mean(bare(images))
    torch.testing.assert_close(found["avg"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "regnet_y_400mf", "squeezenet1_1"])
def test_other_networks_of_torchvision(name: str) -> None:
    network = make_network(backbone=name, pooling="native").eval()
    reference = torchvision.models.get_model(name).eval()
    assert network.backbone.load_state_dict(reference.state_dict(), strict=False).missing_keys == []
    images = make_images()
    with torch.no_grad():
        feature = network(images)["feature"]
        if name == "squeezenet1_1":
            expected = reference.features(images).mean((2, 3))
        else:
            reference.fc = nn.Identity()
            expected = reference(images)
    torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-4)


# Last stride


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_stride_1_doubles_the_map(name: str) -> None:
    with torch.device("meta"):
        backbone, width = build_backbone(name, SIZE, last_stride=1)
        # At stride 32, the side would be 2.
        assert tuple(backbone(make_images()).shape) == (2, width, 4, 4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_only_the_last_stage_changes(name: str) -> None:
    backbone = build_backbone(name, SIZE, last_stride=1)[0].eval()
    reference: Any = torchvision.models.get_model(name).eval()
    reference.load_state_dict(backbone.state_dict(), strict=False)
    first = reference.layer4[0]
    (first.conv1 if name == "resnet18" else first.conv2).stride = (1, 1)
    first.downsample[0].stride = (1, 1)
    reference.fc = nn.Identity()
    images = make_images()
    with torch.no_grad():
        torch.testing.assert_close(backbone(images).mean((2, 3)), reference(images))


def test_vgg_loses_its_last_pooling() -> None:
    with torch.device("meta"):
        layers = build_backbone("vgg16", SIZE, last_stride=1)[0].get_submodule("features")
        reference = make_layers(cfgs["D"])
    assert [type(m) for m in layers.children()] == [
        *(type(m) for m in reference[:-1]),
        nn.Identity,
    ]


def test_the_name_sets_the_stride_unless_the_key_does() -> None:
    with torch.device("meta"):
        sides = {
            (name, stride): make_network(backbone=name, last_stride=stride)
            .backbone(make_images())
            .shape[2]
            for name in ("resnet18", "resnet18_fc512")
            for stride in (None, 1, 2)
        }
    assert list(sides.values()) == [2, 4, 2, 4, 4, 2]


@pytest.mark.parametrize("pooling", ["native", "avg"])
def test_timm_networks_keep_their_head_with_stride_1(pooling: str) -> None:
    changed, plain = (
        make_network(last_stride=stride, pooling=pooling).eval() for stride in (1, None)
    )
    changed.load_state_dict(plain.state_dict())
    images = make_images()
    with torch.no_grad():
        first, second = (network(images)["feature"] for network in (changed, plain))
    assert first.shape == second.shape
    assert not torch.allclose(first, second, rtol=0.01)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "swin_t",
        "convnext_atto",  # its strides are patches
        "resnetblur50",  # its strides are hidden in other layers
    ],
)
def test_stride_1_is_refused_where_there_is_none(name: str) -> None:
    with torch.device("meta"):
        text = refusal(lambda: build_backbone(name, SIZE, last_stride=1))
    assert text.startswith(f"model.last_stride=1: the last stage of {name}")
    assert "vgg16" in text
