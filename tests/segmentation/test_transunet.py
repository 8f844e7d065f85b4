from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from segmentation.transunet import Bridge, TransUNet


def _bridge(**settings: Any) -> Bridge:
    torch.manual_seed(0)
    return Bridge(**{"channels": 8, "side": 4, "width": 64, **settings})


@pytest.mark.parametrize(
    ("width", "published"), [(192, 5.717416), (384, 22.050664), (768, 86.567656)]
)
def test_parameter_counts_of_vit(width: int, published: float) -> None:
    """ViT-Ti, -S and -B (timm's tables) have a 16x16 patch embedding, a class token, 197 positions
    and 1000 classes around the same layers."""
    with torch.device("meta"):
        vit = Bridge(8, 14, width).transformer
    count = sum(p.numel() for p in vit.parameters())
    around = (8 + 1 + 14**2) * width
    theirs = (3 * 16**2 + 1 + 1 + 197) * width + 1000 * (width + 1)
    assert count - around + theirs == round(published * 1e6)


def test_every_place_of_the_map_reaches_every_other() -> None:
    bridge = _bridge().eval()
    maps = torch.randn(1, 8, 4, 4, requires_grad=True)
    bridge(maps)[0, :, 0, 0].sum().backward()
    assert maps.grad is not None
    assert (maps.grad.abs().amax(1) > 0).all()


def test_tokens_keep_their_places() -> None:
    """Without its layers and positions, the transformer is a norm of each pixel."""
    bridge = _bridge().eval()
    bridge.transformer.blocks = nn.Sequential()
    bridge.back = nn.Identity()  # type: ignore[assignment]
    nn.init.zeros_(bridge.transformer.pos_embed)
    maps = torch.randn(2, 8, 3, 5)
    embed = bridge.transformer.patch_embed.proj
    wanted = nn.functional.conv2d(maps, embed.weight, embed.bias)
    wanted = nn.functional.layer_norm(wanted.permute(0, 2, 3, 1), (64,), eps=1e-6)
    torch.testing.assert_close(bridge(maps), wanted.permute(0, 3, 1, 2))


def test_positions_are_told_apart() -> None:
    bridge = _bridge().eval()
    maps = bridge(torch.ones(1, 8, 4, 4))
    assert maps.flatten(2).std(2).max() > 1e-4


def test_all_else_is_smps_unet() -> None:
    settings: dict[str, Any] = {
        "encoder_name": "resnet18",
        "encoder_weights": None,
        "encoder_depth": 4,
        "decoder_channels": [32, 16, 8, 4],
    }
    torch.manual_seed(0)
    network = TransUNet(64, 64, **settings).eval()
    plain = smp.Unet(**settings).eval()
    plain.load_state_dict(
        {k: v for k, v in network.state_dict().items() if not k.startswith("bridge.")}
    )
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(network(images), plain(images), atol=1e-3)
    network.bridge = nn.Identity()  # type: ignore[assignment]
    assert torch.equal(network(images), plain(images))
