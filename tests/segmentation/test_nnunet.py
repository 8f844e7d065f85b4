"""The plain network of nnU-Net, and what its deep supervision makes of the loss."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasewise.data.batch import Batch
from segmentation.architectures import depth_of
from segmentation.module import SegmentationModule
from segmentation.nnunet import NNUNet, supervision_weights

State = dict[str, Tensor]


@pytest.mark.parametrize(
    ("size", "depth", "theirs", "coarsest"),
    [(512, 7, 46_322_535, 512), (256, 6, 33_470_310, 512), (64, 4, 7_765_860, 256)],
)
def test_parameter_counts_of_nnunets_own_network(
    size: int, depth: int, theirs: int, coarsest: int
) -> None:
    """As its authors' package counts them (PlainConvUNet of dynamic-network-architectures, one
    channel, one output), less the head of the coarsest scale, whose loss has the weight 0."""
    assert depth_of("nnunet", size, None) == depth
    with torch.device("meta"):
        network = NNUNet(1, 32, depth, nn.Identity)
    assert sum(p.numel() for p in network.parameters()) == theirs - (coarsest + 1)


@pytest.mark.parametrize(
    ("size", "depth"), [(32, 3), (64, 4), (96, 4), (128, 5), (160, 5), (224, 5), (512, 7)]
)
def test_images_are_halved_until_four_pixels_are_left(size: int, depth: int) -> None:
    assert depth_of("nnunet", size, None) == depth
    assert depth_of("nnunet", size, 2) == 2
    side = size / 2**depth
    assert side == int(side) >= 4 or side == 3
    assert side % 2 or side < 8


def _stage(state: State, name: str, maps: Tensor, stride: int) -> Tensor:
    for conv, norm, step in ((0, 1, stride), (3, 4, 1)):
        weight, bias = state[f"{name}.{conv}.weight"], state[f"{name}.{conv}.bias"]
        maps = F.conv2d(maps, weight, bias, stride=step, padding=1)
        centred = maps - maps.mean((2, 3), keepdim=True)
        maps = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        scale, shift = (state[f"{name}.{norm}.{key}"][:, None, None] for key in ("weight", "bias"))
        maps = maps * scale + shift
        maps = maps.clamp(min=0) + 0.01 * maps.clamp(max=0)
    return maps


def _reference(state: State, images: Tensor, depth: int) -> list[Tensor]:
    """The network once more, from functions and names of weights only."""
    skips = []
    for level in range(depth + 1):
        images = _stage(state, f"encoder.{level}", images, 2 if level else 1)
        skips.append(images)
    maps, decoded = skips[depth], []
    for step in range(depth):
        weight, bias = state[f"up.{step}.weight"], state[f"up.{step}.bias"]
        up = torch.einsum("bihw,iokl->bohkwl", maps, weight).flatten(4).flatten(2, 3)
        joined = torch.cat([up + bias[:, None, None], skips[depth - 1 - step]], 1)
        maps = _stage(state, f"decoder.{step}", joined, 1)
        decoded.append(maps)
    heads = ["segmentation_head.0", *(f"deep_heads.{i}" for i in range(depth - 2))]
    return [
        F.conv2d(maps, state[f"{head}.weight"], state[f"{head}.bias"])
        for head, maps in zip(heads, decoded[::-1], strict=False)
    ]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_network_against_functions(depth: int) -> None:
    torch.manual_seed(0)
    network = NNUNet(2, 3, depth, nn.Identity).double()
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    images = torch.randn(2, 2, 32, 48, dtype=torch.float64)
    wanted = _reference(network.state_dict(), images, depth)
    found = network.train()(images)
    assert len(wanted) == max(depth - 1, 1)
    for one, other in zip([found] if depth < 3 else found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    alone = network.eval()(images)
    torch.testing.assert_close(alone, wanted[0])


def test_widths_stop_growing_at_sixteen_times_the_first() -> None:
    with torch.device("meta"):
        network = NNUNet(1, 2, 6, nn.Identity)
    assert [stage[0].out_channels for stage in network.encoder] == [2, 4, 8, 16, 32, 32, 32]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_weights_of_scales_halve_and_add_up_to_one(count: int) -> None:
    weights = supervision_weights(count)
    assert sum(weights) == pytest.approx(1)
    assert [a / b for a, b in pairwise(weights)] == [2] * (count - 1)


# The loss


@pytest.fixture
def module() -> SegmentationModule:
    torch.manual_seed(0)
    return SegmentationModule(
        image_size=64, architecture="nnunet", width=2, loss="dice_bce", loss_dice_weight=0.3
    )


@pytest.fixture
def batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    mask = (torch.rand(2, 64, 64, generator=draw) < 0.3).long()
    mask[0, :20, :20] = 255
    return Batch(image=torch.randn(2, 3, 64, 64, generator=draw), mask=mask)


def test_loss_is_the_mean_over_scales(module: SegmentationModule, batch: Batch) -> None:
    outputs, terms = module.train().losses(batch)
    assert {name: value.shape[-1] for name, value in outputs.items()} == {
        "logits": 64,
        "logits/2": 32,
        "logits/4": 16,
    }
    parts = []
    for step, name in ((1, "logits"), (2, "logits/2"), (4, "logits/4")):
        mask = F.interpolate(batch["mask"][:, None].float(), size=64 // step, mode="nearest-exact")
        found = module.loss(outputs[name], mask[:, 0].long())
        parts.append(0.3 * found["dice"] + 0.7 * found["bce"])
    wanted = (4 * parts[0] + 2 * parts[1] + parts[2]) / 7
    torch.testing.assert_close(module.total_loss(terms), wanted)
    # what is reported is what validation reports too: the finest scale
    torch.testing.assert_close(module.reported_loss(terms), parts[0])
    assert set(terms) == {"dice", "bce", "deep/2", "deep/4"}


def test_evaluation_has_one_scale(module: SegmentationModule, batch: Batch) -> None:
    outputs, terms = module.eval().losses(batch)
    assert set(outputs) == {"logits"}
    assert set(terms) == {"dice", "bce"}
    assert module.total_loss(terms) == module.reported_loss(terms)


def test_every_parameter_learns(module: SegmentationModule, batch: Batch) -> None:
    _, terms = module.train().losses(batch)
    module.total_loss(terms).backward()
    still = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # a norm takes away what the bias before it adds
    assert [name for name in still if not name.endswith((".0.bias", ".3.bias"))] == []


def test_mixup_mixes_every_scale(module: SegmentationModule, batch: Batch) -> None:
    module.train()
    swapped = Batch(image=batch["image"], mask=batch["mask"].flip(0))
    own, partners = (module.losses(it)[1] for it in (batch, swapped))
    mix = {"mix_index": torch.tensor([1, 0]), "mix_lambda": torch.tensor(0.3)}
    _, terms = module.losses(Batch({**batch, **mix}))
    for name in ("dice", "deep/2", "deep/4"):
        torch.testing.assert_close(terms[name], 0.3 * own[name] + 0.7 * partners[name])
        assert own[name] != partners[name]
