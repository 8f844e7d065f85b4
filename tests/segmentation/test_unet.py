from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import drop_block2d

from segmentation.unet import UNETS, AttentionGate, DropBlock, ResidualBlock, UNet, make_dropout

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _unet(
    architecture: str = "unet",
    width: int = 6,
    depth: int = 2,
    dropout: Callable[[], nn.Module] = nn.Identity,
) -> UNet:
    return UNet(2, width, depth, dropout, **UNETS[architecture])


def _shaken(module: nn.Module) -> nn.Module:
    """Norms and biases of a new network are all alike; a wrong order would go unseen."""
    for name, value in module.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5) if "weight" in name or "var" in name else value.normal_(
                std=0.3
            )
    return module.eval()


# The networks once more, from functions and names of weights only


def _conv(state: State, name: str, maps: Tensor, **settings: int) -> Tensor:
    return F.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], **settings)


def _norm(state: State, name: str, maps: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-3).sqrt() * weight + bias


def _double(maps: Tensor) -> Tensor:
    """Nearest neighbours, by repetition."""
    return maps.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _plain_block(state: State, name: str, maps: Tensor) -> Tensor:
    maps = _norm(state, f"{name}.1", _conv(state, f"{name}.0", maps, padding=1)).clamp(min=0)
    return _norm(state, f"{name}.4", _conv(state, f"{name}.3", maps, padding=1)).clamp(min=0)


def _residual_block(state: State, name: str, maps: Tensor) -> Tensor:
    x = _norm(state, f"{name}.branch.1", _conv(state, f"{name}.branch.0", maps, padding=1))
    x = _norm(state, f"{name}.branch.4", _conv(state, f"{name}.branch.3", x.relu(), padding=1))
    short = _norm(state, f"{name}.shortcut.1", _conv(state, f"{name}.shortcut.0", maps))
    return (x + short).relu()


def _gate(state: State, name: str, skip: Tensor, deep: Tensor) -> Tensor:
    signal = _norm(state, f"{name}.signal.1", _conv(state, f"{name}.signal.0", deep)).relu()
    theta = _conv(state, f"{name}.theta", skip, stride=2)
    phi = _conv(state, f"{name}.phi.0", signal)
    # A transposed convolution of stride 1 is a convolution with the kernel turned round.
    turned = state[f"{name}.phi.1.weight"].transpose(0, 1).flip(2, 3)
    phi = F.conv2d(phi, turned, state[f"{name}.phi.1.bias"], padding=1)
    weights = 1 / (1 + (-_conv(state, f"{name}.weights.1", (theta + phi).relu())).exp())
    return _norm(
        state, f"{name}.result.1", _conv(state, f"{name}.result.0", skip * _double(weights))
    )


def _reference(state: State, images: Tensor, depth: int, attention: bool, residual: bool) -> Tensor:
    block = _residual_block if residual else _plain_block
    maps, skips = images, []
    for level in range(depth):
        skips.append(block(state, f"encoder.{level}", maps))
        b, c, h, w = skips[-1].shape
        maps = skips[-1].view(b, c, h // 2, 2, w // 2, 2).amax((3, 5))
    maps = block(state, f"encoder.{depth}", maps)
    for level in range(depth):
        skip = skips[depth - 1 - level]
        if attention:
            skip = _gate(state, f"gates.{level}", skip, maps)
        maps = block(state, f"decoder.{level}", torch.cat([_double(maps), skip], 1))
    return _conv(state, "segmentation_head.0", maps)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("architecture", "attention", "residual"),
    [
        ("unet", False, False),
        ("attention_unet", True, False),
        ("resunet", False, True),
        ("attention_resunet", True, True),
    ],
)
def test_networks_against_functions(
    architecture: str, attention: bool, residual: bool, depth: int
) -> None:
    network = _shaken(_unet(architecture, depth=depth)).double()
    images = torch.randn(2, 2, 16, 24, dtype=torch.float64)
    wanted = _reference(network.state_dict(), images, depth, attention, residual)
    assert wanted.std() > 0.01
    torch.testing.assert_close(network(images), wanted)


def test_attention_gate_against_functions() -> None:
    gate = _shaken(AttentionGate(3, 5)).double()
    skip, deep = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 5, 4, 4).double()
    state = {f"gate.{key}": value for key, value in gate.state_dict().items()}
    torch.testing.assert_close(gate(skip, deep), _gate(state, "gate", skip, deep))


def test_an_attention_gate_can_close() -> None:
    gate = _shaken(AttentionGate(3, 5))
    skip, deep = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    assert gate(skip, deep).std((0, 2, 3)).min() > 0.01
    nn.init.constant_(gate.weights[1].bias, -100.0)
    assert gate(skip, deep).std((0, 2, 3)).max() < 1e-5


@pytest.mark.parametrize("depth", [2, 5])
def test_channels_double(depth: int) -> None:
    with torch.device("meta"):
        network = UNet(1, 8, depth, nn.Identity)
    widths = [block[0].out_channels for block in network.encoder]
    assert widths == [8 * 2**i for i in range(depth + 1)]
    assert [block[0].out_channels for block in network.decoder] == widths[-2::-1]


# Keras' ways


@pytest.mark.parametrize("architecture", UNETS)
def test_weights_start_as_keras_draws_them(architecture: str) -> None:
    network = _unet(architecture, width=8)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    for layer in layers:
        area = math.prod(layer.kernel_size)
        bound = math.sqrt(6 / (area * (layer.in_channels + layer.out_channels)))
        largest = layer.weight.abs().max().item()
        assert largest <= bound
        assert largest > 0.9 * bound or layer.weight.numel() < 100
        assert layer.bias is not None
        assert not layer.bias.any()


def test_norms_move_as_in_keras() -> None:
    network = _unet().train()
    images = torch.randn(4, 2, 8, 8) + 3
    network(images)
    before = network.encoder[0][0](images)
    norm = network.encoder[0][1]
    torch.testing.assert_close(norm.running_mean, 0.01 * before.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * before.var((0, 2, 3)))


@pytest.mark.parametrize("architecture", UNETS)
def test_every_parameter_is_trained(architecture: str) -> None:
    network = _unet(architecture, width=4).train()
    network(torch.randn(2, 2, 16, 16)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    # A weight without any influence would have a gradient of nothing but zeros.
    weights = {name: p for name, p in network.named_parameters() if p.ndim > 1}
    assert [name for name, p in weights.items() if not p.grad.any()] == []


# Dropout


@pytest.mark.parametrize("kind", ["element", "channel", "block", "depth"])
def test_dropout_acts_in_training_only_and_keeps_the_mean(kind: str) -> None:
    layer, maps = make_dropout(kind, 0.3), torch.ones(200, 8, 14, 14)
    assert torch.equal(layer.eval()(maps), maps)
    dropped = layer.train()(maps)
    share = (dropped == 0).float().mean().item()
    # Blocks overlap, hence clear less than the rate says.
    assert share == pytest.approx(0.3, abs=0.08)
    assert share > 0.2
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "together"),
    [("element", ()), ("channel", (2, 3)), ("depth", (1, 2, 3))],
)
def test_what_is_dropped_together(kind: str, together: tuple[int, ...]) -> None:
    kept = (make_dropout(kind, 0.5).train()(torch.ones(50, 4, 6, 6)) != 0).float()
    if together:
        kept = kept.mean(together)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    for dim in range(kept.ndim):  # all else is dropped alone
        assert not torch.equal(kept, kept.roll(1, dim))


def test_no_dropout_costs_nothing() -> None:
    for kind in ("element", "channel", "block", "depth"):
        assert type(make_dropout(kind, 0.0)) is nn.Identity


def test_blocks_are_squares() -> None:
    holes = DropBlock(0.02, 5).train()(torch.ones(20, 4, 31, 31)) == 0
    assert holes.any()
    # Every hole is a union of 5x5 squares: closed by erosion and dilation with such a square.
    eroded = -F.max_pool2d(-F.pad(holes.float(), [2] * 4), 5, 1)
    assert torch.equal(F.max_pool2d(eroded, 5, 1, padding=2) > 0, holes)


@pytest.mark.parametrize("side", [7, 9, 20])
def test_blocks_are_those_of_torchvision(side: int) -> None:
    maps = torch.randn(4, 3, side, side)
    torch.manual_seed(1)
    wanted = drop_block2d(maps, 0.2, 7)
    torch.manual_seed(1)
    assert torch.equal(DropBlock(0.2).train()(maps), wanted)


@pytest.mark.parametrize("height", [1, 2, 4, 6])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_blocks_on_maps_that_are_smaller(height: int, width: int) -> None:
    maps = torch.rand(64, 8, height, width) + 1
    dropped = DropBlock(0.3).train()(maps)
    assert dropped.isfinite().all()
    assert 0.1 < (dropped == 0).float().mean().item() < 0.45


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blocks_in_half_precision(dtype: torch.dtype) -> None:
    dropped = DropBlock(0.1).train()(torch.ones(2, 8, 96, 96, dtype=dtype))
    assert dropped.dtype is dtype
    assert dropped.float().mean().item() == pytest.approx(1, abs=0.02)


def test_stochastic_depth_drops_the_branch_and_not_the_shortcut() -> None:
    block = ResidualBlock(2, 4, make_dropout("depth", 0.5)).train()
    block.branch[1].eval(), block.branch[4].eval(), block.shortcut[1].eval()
    images = torch.randn(32, 2, 4, 4)
    with torch.no_grad():
        short, branch = block.shortcut(images), block.branch[:5](images)
        found = block(images)
    gone = torch.isclose(found, short.relu(), atol=1e-6).all((1, 2, 3))
    stays = torch.isclose(found, (short + 2 * branch).relu(), atol=1e-5).all((1, 2, 3))
    assert (gone ^ stays).all()
    assert 4 < gone.sum() < 28


@pytest.mark.parametrize("architecture", UNETS)
def test_dropout_sits_in_every_block(architecture: str) -> None:
    network = _unet(architecture, dropout=lambda: nn.Dropout(0.5))
    blocks = [*network.encoder, *network.decoder]
    assert len(blocks) == 5
    for block in blocks:
        last = block.branch[-1] if "resunet" in architecture else block[-1]
        assert isinstance(last, nn.Dropout)
