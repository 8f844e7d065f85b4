from __future__ import annotations

import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from reid.attention import Excitation, NonLocal
from reid.backbones import build_backbone
from tests.conftest import SHARED
from tests.reid.nets import (
    SIZE,
    TINY,
    liven,
    make_images,
    make_network,
    refusal,
    small_vit,
)

MOBILENET = SHARED / "weights" / "mobilenet_v2_features.pth"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_a_file_of_torchvision_gives_its_features() -> None:
    if not MOBILENET.is_file():
        pytest.skip("no weights on this machine (../shared/weights)")
    network = make_network(
        backbone="mobilenet_v2", pretrained=str(MOBILENET), init_scheme="kaiming", norm="group"
    ).eval()
    reference = torchvision.models.mobilenet_v2().eval()
    reference.load_state_dict(torch.load(MOBILENET, weights_only=True), strict=False)
    images = make_images()
    with torch.no_grad():
        feature = network(images)["feature"]
        expected = reference.features(images).mean((2, 3))
    torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-4)
    assert feature.std() > 0.05


def _file_of(name: str, path: Path, prefix: str = "") -> tuple[str, nn.Module]:
    reference = torchvision.models.get_model(name).eval()
    liven(reference)
    file = path / f"{name}.pth"
    torch.save({prefix + key: value for key, value in reference.state_dict().items()}, file)
    return str(file), reference


def test_a_variant_takes_the_weights_of_the_plain_network(tmp_path: Path) -> None:
    file, reference = _file_of("resnet18", tmp_path, "network.backbone.")
    images = make_images()
    for name in ("resnet18_nonlocal", "resnet18_fc512_se"):
        network = make_network(
            backbone=name, pretrained=file, init_scheme="normal", norm="group", activation="gelu"
        ).eval()
        loaded = network.backbone.state_dict()
        for key, value in reference.state_dict().items():
            assert key.startswith("fc.") or torch.equal(loaded[key], value), key
        # What was added is drawn anew and has the norm that was asked for.
        added = [m for m in network.backbone.modules() if isinstance(m, Excitation | NonLocal)]
        weights = [p for m in added for p in m.parameters() if p.ndim == 4 and p.numel() > 5000]
        assert weights
        assert all(w.std().item() == pytest.approx(0.02, rel=0.1) for w in weights)
        assert not any(isinstance(m, nn.BatchNorm2d) for part in added for m in part.modules())
    network = make_network(backbone="resnet18_nonlocal", pretrained=file).eval()
    reference.fc = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        torch.testing.assert_close(network(images)["feature"], reference(images))


def test_a_file_of_the_variant_itself_gives_what_was_added(tmp_path: Path) -> None:
    source = make_network(backbone="resnet18_se").backbone
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    loaded = build_backbone("resnet18_se", SIZE, pretrained=str(file))[0].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())


def test_a_file_of_timm(tmp_path: Path) -> None:
    reference = timm.create_model(TINY).eval()
    liven(reference)
    file = tmp_path / "weights.pth"
    torch.save(reference.state_dict(), file)
    images = make_images()
    with torch.no_grad():
        feature = make_network(pretrained=str(file)).eval()(images)["feature"]
        torch.testing.assert_close(feature, reference.forward_features(images).mean((2, 3)))


def test_positions_are_stretched_to_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.models, "get_model", small_vit)
    source = small_vit("vit_b_16", 32).state_dict()
    file = tmp_path / "weights.pth"
    torch.save(source, file)
    backbone = build_backbone("vit_b_16", SIZE, pretrained=str(file))[0]
    before, after = (state["encoder.pos_embedding"] for state in (source, backbone.state_dict()))
    assert before.shape == (1, 5, 32) and after.shape == (1, 17, 32)
    assert torch.equal(after[:, 0], before[:, 0])  # the class token's
    grid = before[:, 1:].transpose(1, 2).view(1, 32, 2, 2)
    grid = F.interpolate(grid, (4, 4), mode="bicubic", align_corners=True)
    torch.testing.assert_close(after[:, 1:].transpose(1, 2), grid.flatten(2))


@pytest.mark.parametrize(
    ("backbone", "file", "told"),
    [
        ("resnet18", "resnet34", "layer1.2"),
        ("resnet34_se", "resnet18", "layer1.2"),
        ("mobilenet_v2", "resnet18", "0 of 260"),
    ],
)
def test_weights_of_another_network(backbone: str, file: str, told: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = torchvision.models.get_model(file).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({key: torch.zeros(value.shape) for key, value in shapes.items()}, path)
    text = refusal(lambda: build_backbone(backbone, SIZE, pretrained=str(path)))
    assert f"do not fit model.backbone={backbone}" in text and told in text


def test_no_such_file() -> None:
    assert "no such file" in refusal(lambda: make_network(pretrained="nowhere.pth"))


def test_without_internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    timeouts = []

    def dead(*args: object, **kwargs: object) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", dead)
    text = refusal(lambda: make_network(backbone="resnet18_se", pretrained=True))
    assert "no weights for resnet18_se could be downloaded" in text
    assert "no route to host" in text and "model.pretrained=PATH" in text
    assert timeouts == [5]
    assert socket.getdefaulttimeout() is None


def test_downloaded_weights_are_kept_and_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where torch keeps them, under torchvision's name for the first generation of weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file, reference = _file_of("resnet18", tmp_path)
    Path(file).rename(folder / "resnet18-f37072fd.pth")
    backbone = build_backbone("resnet18_fc512", SIZE, pretrained=True)[0].state_dict()
    state = reference.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in backbone.items())


def test_sizes_that_a_network_cannot_take() -> None:
    text = refusal(lambda: build_backbone("maxvit_t", SIZE))
    assert "model.backbone=maxvit_t: cannot be built for 64x64 images" in text
    text = refusal(lambda: build_backbone("vit_b_16", 100))
    assert "100x100" in text
