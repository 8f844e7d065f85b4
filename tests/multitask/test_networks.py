from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from multitask.losses import decode_boxes
from multitask.networks import SEGMENTATION_HEADS, FpnDetector, MultitaskNetwork
from phasewise.networks.backbones import build_backbone

SIZE = 64
CLASSES = 5
TINY = "test_resnet"
BACKBONES = [
    TINY,
    "resnet18",
    "mobilenet_v2",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "convnext_atto",
]
SCHEMES = ["native", "kaiming", "xavier", "normal", "orthogonal"]
CHANNELS = [3, 16, 16, 24, 32, 64]
"""Of the six maps that heads get on their own."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _network(**settings: Any) -> MultitaskNetwork:
    known: dict[str, Any] = {
        "backbone": TINY,
        "pretrained": False,
        "segmentation_head": "unet",
        "detection_head": "fpn",
        "activation": "native",
        "init_scheme": "native",
        "norm": "batch",
        "dropout_rate": 0.1,
        "head_channels": 32,
        "head_depth": 2,
    }
    return MultitaskNetwork(CLASSES, SIZE, **{**known, **settings})


def _images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE)


def _features(size: int = SIZE, count: int = 2) -> list[Tensor]:
    return [torch.randn(count, c, size >> i, size >> i) for i, c in enumerate(CHANNELS)]


def _detector(dropout: float = 0.0, depth: int = 1) -> FpnDetector:
    return FpnDetector(CHANNELS, CLASSES, 32, depth, dropout)


def _norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


# Shapes


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_head_on_every_backbone(backbone: str, head: str) -> None:
    network = _network(backbone=backbone, segmentation_head=head).train()
    out = network(_images())
    points = 8 * 8 + 4 * 4 + 2 * 2
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "segmentation": (2, CLASSES, SIZE, SIZE),
        "class_logits": (2, points, CLASSES - 1),
        "ltrb": (2, points, 4),
        "centerness": (2, points),
    }
    # Both tasks reach the weight where GradNorm measures.
    shared = network.last_shared_weight
    for task in ("segmentation", "class_logits"):
        (gradient,) = torch.autograd.grad(out[task].square().sum(), shared, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_every_parameter_is_trained(head: str) -> None:
    network = _network(segmentation_head=head).train()
    torch.stack([value.square().sum() for value in network(_images()).values()]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_head_may_be_missing() -> None:
    assert set(_network(detection_head="none")(_images())) == {"segmentation"}
    found = set(_network(segmentation_head="none")(_images()))
    assert found == {"class_logits", "ltrb", "centerness"}


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_masks_lie_where_the_image_is(head: str) -> None:
    """What happens in a corner of the image shows most in that corner of the logits."""
    network = _network(segmentation_head=head, norm="group", detection_head="none").eval()
    images = _images(1)
    changed = images.clone()
    changed[..., :16, 48:] += 3
    with torch.no_grad():
        before, after = (network(x)["segmentation"] for x in (images, changed))
    change = (after - before).abs().mean((0, 1))
    quarters = {
        (y, x): change[32 * y : 32 * y + 32, 32 * x : 32 * x + 32].mean().item()
        for y in (0, 1)
        for x in (0, 1)
    }
    assert max(quarters, key=quarters.__getitem__) == (0, 1)


# Dropout


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_dropout_of_the_segmentation_heads(head: str) -> None:
    features = _features()
    for rate in (0.0, 0.9):
        module = SEGMENTATION_HEADS[head](CHANNELS, CLASSES, rate).train()
        same = torch.equal(module(features), module(features))
        assert same == (rate == 0)
        module.eval()
        assert torch.equal(module(features), module(features))


@pytest.mark.parametrize("output", ["class_logits", "ltrb", "centerness"])
def test_dropout_of_the_detection_head(output: str) -> None:
    features = _features()
    for rate in (0.0, 0.9):
        module = _detector(rate).train()
        same = torch.equal(module(features)[output], module(features)[output])
        assert same == (rate == 0)
        module.eval()
        assert torch.equal(module(features)[output], module(features)[output])


def test_the_rate_reaches_both_heads() -> None:
    network = _network(dropout_rate=0.37)
    for part in (network.segmentation, network.detection):
        assert part is not None
        rates = [m.p for m in part.modules() if isinstance(m, nn.Dropout2d)]
        assert rates
        assert set(rates) == {0.37}


# Boxes and points


@pytest.mark.parametrize("logit", [-1e30, -1e4, -100.0, 0.0, 100.0, 1e4, 1e30])
@pytest.mark.parametrize("size", [64, 1024])
def test_boxes_have_an_area_whatever_the_network_says(logit: float, size: int) -> None:
    detector = _detector().eval()
    nn.init.zeros_(detector.regressor.bbox_reg.weight)
    nn.init.constant_(detector.regressor.bbox_reg.bias, logit)
    with torch.no_grad():
        ltrb = detector(_features(size, 1))["ltrb"]
    points = detector.points(size, torch.device("cpu"))
    boxes = decode_boxes(points.xy, ltrb * points.stride[:, None])
    for found in (boxes, clip_boxes_to_image(boxes, (size, size))):
        assert (found[..., 2:] > found[..., :2]).all()
    if logit == 0:
        wanted = (math.log(2) + detector.smallest) * points.stride
        torch.testing.assert_close(boxes[0, :, 2] - points.xy[:, 0], wanted, atol=1e-3, rtol=0)


class _AsGiven(nn.Module):
    """In the place of the pyramid: levels that a test made."""

    def forward(self, levels: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        return levels


@pytest.mark.parametrize(("level", "y", "x"), [(0, 2, 5), (0, 7, 0), (1, 3, 1), (2, 0, 1)])
@pytest.mark.parametrize("output", ["class_logits", "ltrb", "centerness"])
def test_points_are_in_the_order_of_the_outputs(output: str, level: int, y: int, x: int) -> None:
    """A hot cell shows where its point is."""
    detector = _detector().eval()
    detector.pyramid = _AsGiven()  # type: ignore[assignment]
    detector.classifier.conv = detector.regressor.conv = nn.Identity()  # type: ignore[assignment]
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            nn.init.normal_(module.weight[:, :, 1, 1])  # each cell for itself
    stride = detector.strides[level]
    features = [torch.zeros(1, 32, SIZE >> i, SIZE >> i) for i in range(6)]
    with torch.no_grad():
        calm = detector(features)[output]
        features[3 + level][0, :, y, x] = torch.randn(32) * 10
        change = (detector(features)[output] - calm).abs()[0]
    hot = int(change.flatten(1).sum(1).argmax() if change.ndim > 1 else change.argmax())
    points = detector.points(SIZE, torch.device("cpu"))
    assert points.xy[hot].tolist() == [(x + 0.5) * stride, (y + 0.5) * stride]
    assert points.stride[hot] == stride


def test_levels_share_all_sizes_without_overlap() -> None:
    points = _detector().points(SIZE, torch.device("cpu"))
    table = torch.stack([points.stride, points.low, points.high], 1).unique(dim=0).tolist()
    assert table == [[8, 0, 32], [16, 32, 64], [32, 64, math.inf]]
    inside = (points.xy > 0) & (points.xy < SIZE)
    assert inside.all()


# Initial weights


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_classifier_starts_from_its_prior(scheme: str) -> None:
    network = _network(init_scheme=scheme)
    assert network.detection is not None
    logits = network.detection.classifier.cls_logits
    torch.testing.assert_close(logits.bias.sigmoid(), torch.full((CLASSES - 1,), 0.01))
    assert logits.weight.std().item() == pytest.approx(0.01, rel=0.15)
    with torch.no_grad():
        found = network.eval()(_images())["class_logits"].sigmoid()
    assert found.mean().item() == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_a_scheme_reaches_all_parts(scheme: str) -> None:
    torch.manual_seed(0)
    native = _network().state_dict()
    torch.manual_seed(0)
    drawn = _network(init_scheme=scheme).state_dict()
    last = ("cls_logits", "bn", "norm")  # set by the prior, or no weight of a layer
    for part in ("backbone", "segmentation", "detection"):
        weights = [
            key
            for key, value in native.items()
            if key.startswith(part) and value.ndim > 1 and not any(name in key for name in last)
        ]
        assert weights
        assert all(not torch.equal(native[key], drawn[key]) for key in weights)


def test_group_norm_everywhere() -> None:
    network = _network(norm="group")
    assert _norms(network) == []
    assert network.train()(_images(1))["segmentation"].isfinite().all()


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_pretrained_weights_are_kept(head: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    source = build_backbone(TINY, SIZE)
    for norm in _norms(source):
        nn.init.uniform_(norm.weight)  # type: ignore[arg-type]
        norm.running_mean.uniform_()  # type: ignore[union-attr, operator]
    torch.save(source.state_dict(), file)
    network = _network(
        pretrained=str(file),
        segmentation_head=head,
        init_scheme="kaiming",
        norm="group",
        activation="gelu",
    )
    loaded = network.backbone.state_dict()
    assert loaded.keys() == source.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())
    # The heads are changed all the same, and the activation is everybody's.
    assert network.segmentation is not None
    assert _norms(network.segmentation) == []
    layers = [m for m in network.segmentation.modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        if layer.weight.numel() > 1000:
            std = math.sqrt(2 / (layer.out_channels * math.prod(layer.kernel_size)))
            assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
    assert not any(isinstance(m, nn.ReLU) for m in network.modules())
    assert any(isinstance(m, nn.GELU) for m in network.backbone.modules())
