from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from localization.networks import (
    LocalizationNetwork,
    PointsHead,
    boxes_from_corners,
    boxes_from_logits,
    cut_to_image,
)
from phasewise.errors import UserError
from phasewise.networks.backbones import build_backbone
from phasewise.networks.stages import groups_by_stage

SIZE = 64
TINY = "test_resnet"  # timm's smallest
BACKBONES = [TINY, "resnet18", "mobilenet_v2", "vit_tiny_patch16_224", "convnext_atto"]
HEADS = ("linear", "spatial", "points")
SCHEMES = ["native", "kaiming", "xavier", "normal", "orthogonal"]
MIDDLE = torch.tensor([0.25, 0.25, 0.75, 0.75])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network(**settings: Any) -> LocalizationNetwork:
    known: dict[str, Any] = {
        "backbone": TINY,
        "pretrained": False,
        "stride": 32,
        "head": "spatial",
        "hidden": 8,
        "box": "bounded",
        "activation": "native",
        "init_scheme": "native",
        "norm": "batch",
        "dropout_rate": 0.0,
    }
    return LocalizationNetwork(SIZE, **{**known, **settings})


def images(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(build_backbone(TINY, SIZE).state_dict(), file)
    return str(file)


# --- boxes ------------------------------------------------------------------------------------


def test_boxes_by_hand() -> None:
    """Margins of 1, 2, 3 and 2 parts to 2 parts of box, less the share kept for thin boxes."""
    logits = torch.tensor([[1.0, 2.0, 3.0, 2.0]]).log()
    wanted = torch.tensor([[1 / 6, 2 / 6, 1 - 3 / 6, 1 - 2 / 6]])
    torch.testing.assert_close(boxes_from_logits(logits), wanted, atol=1.1e-3, rtol=0)
    torch.testing.assert_close(boxes_from_logits(torch.zeros(1, 4))[0], MIDDLE, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("extent", [0.0, 1.0, 10.0, 1e2, 1e4, 1e30])
def test_boxes_are_valid_whatever_the_network_says(extent: float, dtype: torch.dtype) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 4)
    logits = (extent * torch.cat([signs, torch.randn(2000, 4)])).to(dtype).requires_grad_()
    boxes = boxes_from_logits(logits)
    assert boxes.dtype == torch.float32
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    (gradient,) = torch.autograd.grad(boxes.square().sum(), logits)
    assert gradient.isfinite().all()


def test_boxes_from_corners_by_hand() -> None:
    corners = torch.tensor(
        [
            [0.1, 0.2, 0.5, 0.7],  # as usual
            [0.5, 0.7, 0.1, 0.2],  # turned round
            [0.5, 0.2, 0.1, 0.7],  # along one axis
            [-0.5, 0.2, 1.5, 0.7],  # outside
            [2.0, 0.2, 3.0, 0.2],  # outside altogether, and of no height
        ]
    )
    usual = [0.1, 0.2, 0.5, 0.7]
    wanted = [usual, usual, usual, [-0.5, 0.2, 1.5, 0.7], [2.0, 0.2, 3.0, 0.201]]
    boxes = boxes_from_corners(corners)
    torch.testing.assert_close(boxes, torch.tensor(wanted))
    wanted[3:] = [[0, 0.2, 1, 0.7], [0.999, 0.2, 1, 0.201]]
    torch.testing.assert_close(cut_to_image(boxes), torch.tensor(wanted))


@pytest.mark.parametrize("extent", [0.0, 1.0, 1e4])
def test_raw_boxes_are_valid_whatever_the_network_says(extent: float) -> None:
    corners = (extent * torch.randn(2000, 4)).requires_grad_()
    inside = cut_to_image(boxes_from_corners(corners))
    assert (inside[:, 2:] > inside[:, :2]).all()
    assert inside.min() >= 0
    assert inside.max() <= 1
    boxes = boxes_from_corners(corners)
    (gradient,) = torch.autograd.grad(boxes.square().sum(), corners)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("head", ["linear", "spatial"])
def test_raw_coordinates_are_the_last_layers_numbers(head: str) -> None:
    model, seen = network(head=head, box="raw"), []
    nn.init.normal_(model.head.box.weight)
    model.head.box.register_forward_hook(lambda _, args, out: seen.append(out))
    for training in (True, False):
        boxes = model.train(training)(10 * images())
        assert torch.equal(boxes, seen.pop())
        assert boxes.dtype == torch.float32
        assert boxes.abs().max() > 1  # nothing holds them within the image


@pytest.mark.parametrize("head", ["points", {"_target_": "tests.outside.parts.Corner"}])
def test_raw_coordinates_want_a_layer_that_has_some(head: Any) -> None:
    with pytest.raises(UserError, match=r"goes with model\.head=linear and spatial"):
        network(head=head, box="raw")
    with pytest.raises(ValueError, match="box must be bounded or raw"):
        network(box="round")


# --- network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_and_stages(backbone: str) -> None:
    model = network(backbone=backbone, head="linear" if backbone == "resnet18" else "spatial")
    boxes = model(images())
    assert boxes.shape == (2, 4)
    boxes.square().sum().backward()
    trained = {p for p in model.parameters() if p.requires_grad}
    assert trained == {p for p in model.parameters() if p.grad is not None}
    groups = groups_by_stage(
        [{"params": [p for p in model.parameters() if p.requires_grad]}],
        model.backbone,
        lr=1.0,
        backbone_lr_factor=0.5,
        layer_decay=0.1,
    )
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([1.0, *(0.5 * 0.1**depth for depth in range(len(rates) - 1))])
    assert len(rates) - 1 >= 4
    named = {parameter: name for name, parameter in model.named_parameters()}
    expected = {
        "resnet18": (5, "layer4.", ("conv1.", "bn1.")),
        "vit_tiny_patch16_224": (13, ".blocks.11.", (".pos_embed", ".cls_token", ".patch_embed")),
        "convnext_atto": (5, ".stages_3.", (".stem_0.", ".stem_1.")),
    }
    if backbone in expected:
        count, last, first = expected[backbone]
        assert len(rates) - 1 == count
        assert any(last in named[p] for p in groups[1]["params"])
        assert all(any(part in named[p] for part in first) for p in groups[-1]["params"])


@pytest.mark.parametrize(
    ("head", "box"),
    [*((head, "bounded") for head in HEADS), ("linear", "raw"), ("spatial", "raw")],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_boxes_are_near_the_middle(scheme: str, head: str, box: str) -> None:
    model = network(init_scheme=scheme, head=head, box=box)
    first = model(images(8))
    # the shares of a softmax move by a fifth of what its logits do
    assert (first - MIDDLE).abs().max() < (0.1 if box == "bounded" else 0.3)
    assert first.std(0).max() > 0  # but not blind to the image


@pytest.mark.parametrize("head", HEADS)
def test_it_finds_where_a_square_is(head: str) -> None:
    """A few steps are enough to learn four pictures."""
    model = network(head=head, hidden=16)
    corners = torch.tensor([[x, y] for x in (0, 1) for y in (0, 1)]) / 2
    target = torch.cat([corners, corners + 0.5], 1)
    pictures = torch.zeros(4, 3, SIZE, SIZE)
    for picture, (x, y) in zip(pictures, (corners * SIZE).int().tolist(), strict=True):
        picture[:, y : y + SIZE // 2, x : x + SIZE // 2] = 1
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        (model(pictures) - target).abs().mean().backward()
        optimizer.step()
    error = (model(pictures) - target).abs().max()
    assert error < 0.15, error


@pytest.mark.parametrize("head", HEADS)
def test_other_sizes_than_it_was_made_for(head: str) -> None:
    model = network(head=head).eval()
    for size in (32, 96):
        assert model(images(2, size)).shape == (2, 4)


def test_under_autocast_the_head_stays_in_float32() -> None:
    model, dtypes = network().eval(), []
    for part in (model.backbone, model.head):
        part.register_forward_hook(lambda _, args, out: dtypes.append(out[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images()).dtype == torch.float32
    assert dtypes == [torch.bfloat16, torch.float32]


def test_points_vote_for_a_box() -> None:
    """Each place by itself, in plain Python."""
    head = PointsHead(3, 4, 0.0).eval()
    nn.init.normal_(head.box.weight)
    features = torch.randn(2, 3, 2, 3)
    values = head.box(head.reduce(features)).detach()
    for picture, box in zip(values, head(features), strict=True):
        wanted, total = torch.zeros(4), 0.0
        for row in range(2):
            for column in range(3):
                score, left, top, right, bottom = picture[:, row, column]
                x, y, weight = (column + 0.5) / 3, (row + 0.5) / 2, math.exp(score)
                sides = [torch.sigmoid(d) for d in (left, top, right, bottom)]
                vote = [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
                wanted += weight * torch.tensor(vote)
                total += weight
        torch.testing.assert_close(box, (wanted / total).clamp(0, 1))


@pytest.mark.parametrize("extent", [1.0, 1e2, 1e4])
def test_votes_are_valid_whatever_the_network_says(extent: float) -> None:
    head = PointsHead(3, 4, 0.0)
    nn.init.normal_(head.box.weight, std=extent)
    boxes = head(torch.randn(500, 3, 4, 4))
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    boxes.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    head.eval()
    inside = head(torch.randn(500, 3, 4, 4))
    assert (inside[:, 2:] > inside[:, :2]).all()
    assert inside.min() >= 0
    assert inside.max() <= 1


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_dropout(head: str) -> None:
    pictures = images()
    for rate in (0.0, 0.9):
        model = network(head=head, dropout_rate=rate).train()
        nn.init.normal_(model.head.box.weight)
        model.backbone.eval()
        if head != "linear":
            model.head.reduce.eval()  # type: ignore[union-attr, operator]
        assert torch.equal(model(pictures), model(pictures)) == (rate == 0)
        model.eval()
        assert torch.equal(model(pictures), model(pictures))


@pytest.mark.parametrize("changed", [{"hidden": 16}, {"activation": "gelu"}, {"norm": "group"}])
def test_keys_change_the_head(changed: dict[str, Any], weights: str) -> None:
    before, after = (str(network(pretrained=weights, **s).head) for s in ({}, changed))
    assert before != after


@pytest.mark.parametrize(("backbone", "share"), [("resnet18", 0.6), ("test_resnet", 0.9)])
def test_stages_below_the_map_that_is_used_are_not_computed(backbone: str, share: float) -> None:
    """And change nothing: the network is the one that has them."""
    found = {}
    for stride in (8, 32):
        torch.manual_seed(0)
        found[stride] = network(backbone=backbone, stride=stride).eval()
    images = torch.rand(2, 3, 64, 64)
    with FlopCounterMode(display=False) as part, torch.no_grad():
        maps = found[8].backbone(images)
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        reference = found[32].backbone(images)
    assert part.get_total_flops() < share * whole.get_total_flops()
    assert [len(maps), len(reference)] == [4, 6]
    assert all(torch.equal(a, b) for a, b in zip(maps, reference, strict=False))


def test_without_pretrained_weights_a_scheme_draws_the_backbone_too() -> None:
    drawn = []
    for scheme in ("native", "normal"):
        torch.manual_seed(0)
        drawn.append(dict(network(init_scheme=scheme).named_parameters()))
    kernels = [name for name, value in drawn[0].items() if value.ndim == 4]
    assert any(name.startswith("backbone") for name in kernels)
    for name in kernels:
        assert not torch.equal(drawn[0][name], drawn[1][name])
        assert drawn[1][name].std().item() == pytest.approx(0.02, rel=0.15)


def test_schemes_differ_also_where_the_backbone_is_pretrained(weights: str) -> None:
    drawn = []
    for scheme in SCHEMES:
        torch.manual_seed(0)
        model = network(pretrained=weights, head="linear", init_scheme=scheme)
        drawn.append(model.head.box.weight)
        for name, value in build_backbone(TINY, SIZE, weights).state_dict().items():
            assert torch.equal(model.backbone.state_dict()[name], value)
    for i, one in enumerate(drawn):
        assert not any(torch.allclose(one, other, rtol=1e-3) for other in drawn[:i])


def test_a_norm_that_changes_nothing_is_refused(weights: str) -> None:
    with pytest.raises(UserError, match=r"model\.norm=group: changes nothing"):
        network(pretrained=weights, head="linear", norm="group")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network(norm="group").modules())


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        network(pretrained=str(tmp_path / "missing.pth"))


# --- freezing ---------------------------------------------------------------------------------


def test_a_frozen_backbone_stays_as_it_is() -> None:
    model = network().train()
    model.freeze_backbone(True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)

    def step() -> set[str]:
        """What a step of training changes, by the part of the network."""
        model.train()
        optimizer.zero_grad()
        (model(images(4)) - 0.1).abs().sum().backward()
        optimizer.step()
        state = model.state_dict()
        return {k.split(".")[0] for k, v in state.items() if not torch.equal(v, before[k])}

    assert step() == {"head"}
    assert model.training
    assert not model.backbone.training
    model.freeze_backbone(False)
    assert model.backbone.training
    assert step() == {"backbone", "head"}
    model.eval()
    model.freeze_backbone(True)
    model.freeze_backbone(False)
    assert not model.backbone.training
