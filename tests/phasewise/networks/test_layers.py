from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from phasewise.networks.backbones import build_backbone
from phasewise.networks.layers import (
    ACTIVATIONS,
    freeze_unused,
    init_weights,
    swap_activation,
    swap_norm,
)

GATES = ("Sigmoid", "Hardsigmoid", "HardSigmoid", "Softmax")
BACKBONES = [
    "resnet18",
    "mobilenet_v2",
    "swin_tiny_patch4_window7_224",
    "efficientnet_b0",  # timm's
    "efficientnet-b0",  # SMP's
    "convnext_atto",
    "mobilenetv3_small_100",
]


def _activations(module: nn.Module) -> Counter[str]:
    """Names of all activations but gates, told by the file that their class is written in."""
    names = (
        type(m).__name__
        for m in module.modules()
        if type(m).__module__ in ("torch.nn.modules.activation", "timm.layers.activations")
    )
    return Counter(name for name in names if name not in GATES)


def _gates(module: nn.Module) -> int:
    return sum(type(m).__name__ in GATES for m in module.modules())


def _deepest(backbone: nn.Module, size: int = 64) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return backbone.eval()(torch.randn(1, 3, size, size))[-1]


# Activations


@pytest.mark.parametrize("name", BACKBONES)
def test_no_other_activation_is_left(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, 64)
    native, before, gates = _activations(backbone), _deepest(backbone), _gates(backbone)
    assert native.total() > 5
    swap_activation(backbone, "elu")
    assert _activations(backbone) == Counter(ELU=native.total())
    assert _gates(backbone) == gates
    after = _deepest(backbone)
    assert after.isfinite().all()
    assert not torch.equal(after, before)


@pytest.mark.parametrize("name", ["xception", "nf_regnet_b0", "resnet18"])
def test_inputs_of_activations_are_not_written_over(name: str) -> None:
    """Some networks go on with what went into an activation."""
    torch.manual_seed(0)
    backbone = build_backbone(name, 64)
    with_relu = copy.deepcopy(backbone)
    for module in with_relu.modules():
        for key, child in module.named_children():
            if type(child).__name__ in ("SiLU", "ReLU"):
                setattr(module, key, nn.ReLU(inplace=False))
    swap_activation(backbone, "relu")
    assert torch.equal(_deepest(backbone), _deepest(with_relu))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: max(x, 0)),
        ("leaky_relu", lambda x: max(x, 0.01 * x)),
        ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("elu", lambda x: x if x > 0 else math.exp(x) - 1),
        ("mish", lambda x: x * math.tanh(math.log(1 + math.exp(x)))),
    ],
)
def test_activations_are_what_their_names_say(name: str, formula: Callable[[float], float]) -> None:
    values = torch.linspace(-3, 3, 13, dtype=torch.float64)
    wanted = torch.tensor([formula(v) for v in values.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS[name]()(values), wanted)


@pytest.mark.parametrize("layer", ["GELUTanh", "QuickGELU", "Swish", "HardSwish", "HardMish"])
def test_classes_of_timm_are_swapped_too(layer: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), getattr(timm.layers.activations, layer)())
    swap_activation(network, "relu")
    assert isinstance(network[1], nn.ReLU)


def test_native_activations_stay() -> None:
    backbone = build_backbone("efficientnet_b0", 64)
    before = _activations(backbone)
    swap_activation(backbone, "native")
    assert _activations(backbone) == before


# Norms


@pytest.mark.parametrize("name", BACKBONES)
def test_no_batch_norm_is_left(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, 64)
    batch_norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.modules())
    before, activations = _deepest(backbone), _activations(backbone)
    swap_norm(backbone, "group")
    groups = [m for m in backbone.modules() if isinstance(m, nn.GroupNorm)]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.modules())
    assert len(groups) == batch_norms
    assert _activations(backbone) == activations
    assert torch.equal(_deepest(backbone), before) == (not batch_norms)
    backbone.train()(torch.randn(1, 3, 64, 64))  # also of a single image


@pytest.mark.parametrize(
    ("channels", "groups"), [(512, 32), (64, 32), (48, 24), (40, 20), (24, 24), (7, 7), (1, 1)]
)
def test_group_norm_in_numbers(channels: int, groups: int) -> None:
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    network = nn.Sequential(norm)
    swap_norm(network, "group")
    images = torch.randn(2, channels, 5, 6)
    parts = images.view(2, groups, -1)
    mean, variance = parts.mean(2, keepdim=True), parts.var(2, keepdim=True, correction=0)
    wanted = ((parts - mean) / (variance + 1e-3).sqrt()).view_as(images)
    wanted = wanted * weight[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(network(images), wanted)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU])
def test_the_activation_within_a_norm_of_timm_is_kept(activation: type[nn.Module]) -> None:
    network = nn.Sequential(BatchNormAct2d(64, act_layer=activation, drop_layer=nn.Dropout))
    images = torch.randn(2, 64, 4, 4)
    swap_norm(network, "group")
    wanted = activation()(F.group_norm(images, 32))
    torch.testing.assert_close(network.eval()(images), wanted)
    assert any(isinstance(m, nn.Dropout) for m in network.modules())


def test_batch_norms_stay() -> None:
    backbone = build_backbone("resnet18", 64)
    before = _deepest(backbone)
    swap_norm(backbone, "batch")
    assert torch.equal(_deepest(backbone), before)


# Initial weights


def _network() -> Any:
    return nn.Sequential(
        nn.Conv2d(48, 96, 3), nn.BatchNorm2d(96), nn.ConvTranspose2d(96, 96, 2), nn.Linear(300, 200)
    )


@pytest.mark.parametrize(
    ("scheme", "stds"),
    [
        # He: sqrt(2 / fan out); fan out is kernel area times output channels.
        ("kaiming", (math.sqrt(2 / (9 * 96)), math.sqrt(2 / (4 * 96)), math.sqrt(2 / 200))),
        # Glorot: variance 2 / (fan in + fan out)
        ("xavier", (math.sqrt(2 / (9 * 144)), math.sqrt(2 / (4 * 192)), math.sqrt(2 / 500))),
        ("normal", (0.02, 0.02, 0.02)),
        # an orthogonal matrix of r rows and c columns has entries of variance 1 / max(r, c)
        ("orthogonal", (math.sqrt(1 / (9 * 48)), math.sqrt(1 / (4 * 96)), math.sqrt(1 / 300))),
    ],
)
def test_standard_deviations(scheme: str, stds: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    network = _network()
    nn.init.constant_(network[1].weight, 3.0)
    init_weights(network, scheme)
    layers = [network[0], network[2], network[3]]
    for layer, std in zip(layers, stds, strict=True):
        count = layer.weight.numel()
        assert layer.weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * count))
        assert abs(layer.weight.mean().item()) < 4 * std / math.sqrt(count)
        assert not layer.bias.any()
    assert (network[1].weight == 3).all()  # norms are not weights


def test_xavier_is_uniform_and_the_normal_ones_are_not() -> None:
    torch.manual_seed(0)
    network = _network()
    bound = math.sqrt(6 / (9 * 144))
    init_weights(network, "xavier")
    assert network[0].weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    for scheme in ("kaiming", "normal"):
        init_weights(network, scheme)
        weight = network[0].weight.detach()
        assert ((weight / weight.std()) ** 4).mean().item() == pytest.approx(3, abs=0.1)


def test_orthogonal_rows() -> None:
    network = _network()
    init_weights(network, "orthogonal")
    rows = network[0].weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(96), atol=1e-5, rtol=0)


def test_native_weights_stay_and_others_are_drawn_by_the_seed() -> None:
    network = _network()
    before = copy.deepcopy(network.state_dict())
    init_weights(network, "native")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        init_weights(network, "normal")
        drawn.append(network[0].weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


# What trains


class _Partly(nn.Module):
    """Three layers, of which one is not looked at and one not differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1)
        self.unused, self.detached = nn.Conv2d(4, 1, 1), nn.Conv2d(4, 1, 1)
        self.norm, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.dropout(self.norm(self.first(images)))
        self.unused(features)
        return self.second(features) + self.detached(features).detach()


def test_what_gets_no_gradient_is_frozen_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    network = _Partly()
    before, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        result = freeze_unused(network, 8)
    assert result.shape == (1, 1, 6, 6)
    assert network.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    network.requires_grad_()(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert trained == {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in trained} == {"first", "norm", "second"}
