from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.attention import NonLocal
from reid.backbones import build_backbone
from tests.reid.nets import (
    SIZE,
    liven,
    make_images,
    make_network,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _norm(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    """Batch norm of evaluation, written out."""
    weight, bias, mean, var = (
        state[f"{key}.{part}"][None, :, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def _excited(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Hu et al. 2018, equations 2 to 4."""
    squeezed = x.mean((2, 3))
    hidden = F.relu(squeezed @ state["se.fc1.weight"][:, :, 0, 0].T + state["se.fc1.bias"])
    logits = hidden @ state["se.fc2.weight"][:, :, 0, 0].T + state["se.fc2.bias"]
    return x / (1 + torch.exp(-logits))[:, :, None, None]


@pytest.mark.parametrize("name", ["resnet18_se", "resnet50_se"])
@pytest.mark.parametrize("first", [True, False])
@torch.no_grad()
def test_squeeze_and_excitation_scales_the_residual_branch(name: str, first: bool) -> None:
    backbone: Any = build_backbone(name, SIZE)[0].eval()
    block = backbone.layer2[0 if first else 1]
    liven(block)
    nn.init.normal_(block.se.fc2.weight)  # gates that differ
    state = block.state_dict()
    x = torch.randn(2, block.conv1.in_channels, 6, 6)
    branch, count = x, 3 if name == "resnet50_se" else 2
    strided = count - 1 if first else 0  # the 3x3 convolution of either block
    for i in range(1, count + 1):
        weight = state[f"conv{i}.weight"]
        stride = 2 if i == strided else 1
        branch = F.conv2d(branch, weight, stride=stride, padding=weight.shape[-1] // 2)
        branch = _norm(state, f"bn{i}", branch)
        branch = F.relu(branch) if i < count else _excited(state, branch)
    shortcut = x
    if first:
        shortcut = F.conv2d(x, state["downsample.0.weight"], stride=2)
        shortcut = _norm(state, "downsample.1", shortcut)
    torch.testing.assert_close(block(x), F.relu(shortcut + branch), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_non_local_block() -> None:
    block = NonLocal(8).eval()
    x = torch.randn(2, 8, 3, 5)
    assert torch.equal(block(x), x)  # nothing at first
    liven(block)
    state = block.state_dict()
    theta, phi, g = (
        torch.einsum("oc,bcn->bon", state[f"{key}.weight"][:, :, 0, 0], x.flatten(2))
        + state[f"{key}.bias"][:, None]
        for key in ("theta", "phi", "g")
    )
    seen = torch.zeros(2, 4, 15)
    for image in range(2):
        for i in range(15):
            kernel = torch.stack([theta[image, :, i] @ phi[image, :, j] for j in range(15)]).exp()
            seen[image, :, i] = (g[image] * kernel / kernel.sum()).sum(1)
    out = torch.einsum("oc,bcn->bon", state["w.weight"][:, :, 0, 0], seen).view_as(x)
    torch.testing.assert_close(block(x), x + _norm(state, "bn", out), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_non_local_network_starts_as_the_plain_one(norm: str) -> None:
    network = make_network(backbone="resnet18_nonlocal", norm=norm).eval()
    plain = make_network(backbone="resnet18", norm=norm).eval()
    own = network.backbone.state_dict()
    plain.backbone.load_state_dict({k: v for k, v in own.items() if "attention" not in k})
    images = make_images()
    with torch.no_grad():
        assert torch.equal(network(images)["feature"], plain(images)["feature"])
    assert [key for key, _ in network.backbone.named_children()][-3:] == [
        "layer3",
        "attention",
        "layer4",
    ]
