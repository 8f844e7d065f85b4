from __future__ import annotations

import logging
import os
import pickle
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from phasewise.config.backbone_names import is_backbone, smp_names, timm_names
from phasewise.errors import UserError
from phasewise.networks.backbones import build_backbone
from tests.conftest import SHARED

TINY = "test_resnet"  # timm's smallest
MOBILENET = SHARED / "weights" / "mobilenet_v2_features.pth"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _full(name: str = TINY) -> dict[str, torch.Tensor]:
    """The state dict of a whole network of timm, with its classifier."""
    return timm.create_model(name).state_dict()


def _saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


def _refusal(name: str, file: str | bool, image_size: int = 64) -> str:
    with pytest.raises(UserError) as caught:
        build_backbone(name, image_size, file)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# Names


def test_smp_names_are_the_registry_of_smp() -> None:
    # SMP keeps old names of timm's networks (timm-...), and timm offers those itself.
    own = {name for name in smp.encoders.encoders if not name.startswith("timm-")}
    assert smp_names() == own


def test_timm_names_are_the_registry_of_timm() -> None:
    assert timm_names() == set(timm.list_models())


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("resnet18", True),
        ("swin_tiny_patch4_window7_224", True),
        ("vit_tiny_patch16_224.augreg_in21k", True),
        ("resnet19", False),
        ("tu-resnet18", False),
        ("", False),
    ],
)
def test_is_backbone(name: str, known: bool) -> None:
    assert is_backbone(name) is known


# Maps


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("resnet18", 64),
        ("mobilenet_v2", 64),
        ("mit_b0", 64),
        ("swin_tiny_patch4_window7_224", 96),
        ("vit_tiny_patch16_224", 96),
        ("convnext_atto", 64),
        ("efficientnet_b0", 64),
        ("pvt_v2_b0", 64),  # patches, but no size of its own
        ("maxvit_pico_rw_256", 96),  # windows, but no patches
    ],
)
def test_six_maps_of_the_declared_channels(name: str, image_size: int) -> None:
    backbone: Any = build_backbone(name, image_size).eval()
    images = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        maps = backbone(images)
    strides = (1, 2, 4, 8, 16, 32)
    wanted = [
        (2, channels, image_size // stride, image_size // stride)
        for channels, stride in zip(backbone.out_channels, strides, strict=True)
    ]
    assert [tuple(m.shape) for m in maps] == wanted
    assert torch.equal(maps[0], images)
    for features in maps[2:]:
        assert features.shape[1] > 0
        assert not torch.equal(features[0], features[1])  # it looks at the images


def test_every_parameter_of_the_vit_pyramid_is_trained() -> None:
    backbone = build_backbone("vit_tiny_patch16_224", 64).train()
    maps = backbone(torch.rand(2, 3, 64, 64))
    torch.stack([m.square().sum() for m in maps]).sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "image_size"),
    [("vit_base_patch32_224", 96), ("mobilevitv2_050", 96)],
)
def test_networks_that_give_no_pyramid_are_refused(name: str, image_size: int) -> None:
    text = _refusal(name, False, image_size)
    assert f"model.backbone={name}" in text
    assert f"{image_size}x{image_size}" in text


def test_checking_the_maps_leaves_no_trace() -> None:
    backbone = build_backbone(TINY, 64)
    assert backbone.training
    statistics = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert statistics
    assert all(m.num_batches_tracked == 0 for m in statistics)
    assert all(p.grad is None for p in backbone.parameters())


# Weights files


def test_a_file_of_torchvision_gives_its_features() -> None:
    if not MOBILENET.is_file():
        pytest.skip("no weights on this machine (../shared/weights)")
    backbone = build_backbone("mobilenet_v2", 64, str(MOBILENET)).eval()
    reference = torchvision.models.mobilenet_v2(weights=None).eval()
    reference.load_state_dict(torch.load(MOBILENET, weights_only=True), strict=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        deepest = backbone(images)[-1]
        torch.testing.assert_close(deepest, reference.features(images))
    assert deepest.abs().max() > 0.1


@pytest.mark.parametrize("name", [TINY, "convnext_atto", "vit_tiny_patch16_224", "densenet121"])
def test_a_file_of_timm_or_torchvision_loads_whole(name: str, tmp_path: Path) -> None:
    """Among them: feature extractors with names of their own, a pyramid with layers of its own, and
    an encoder that overrides ``load_state_dict``."""
    source = timm.create_model(name, img_size=64) if "vit" in name else timm.create_model(name)
    state = source.state_dict()
    backbone = build_backbone(name, 64, _saved(tmp_path / "weights.pth", state))
    loaded = {
        re.sub(r"^(model\.)+", "", key).replace(".", "_"): value
        for key, value in backbone.state_dict().items()
    }
    own = {key for key in loaded if key.startswith(("up4_", "up8_"))}
    for key, value in state.items():
        other = loaded.pop(key.replace(".", "_"), None)
        assert other is None or torch.equal(other, value), key
    assert loaded.keys() == own


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "network.backbone."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_prefixes_and_wrappers_are_set_aside(prefix: str, wrapper: str, tmp_path: Path) -> None:
    plain = _full()
    state: object = {prefix + key: value for key, value in plain.items()}
    if wrapper:
        state = {"epoch": 3, wrapper: state}
    backbone = build_backbone(TINY, 64, _saved(tmp_path / "weights.pth", state))
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[f"model.{k}"], v) for k, v in plain.items() if "fc" not in k)


def test_safetensors(tmp_path: Path) -> None:
    plain = _full()
    save_file(plain, tmp_path / "weights.safetensors")
    backbone = build_backbone(TINY, 64, str(tmp_path / "weights.safetensors"))
    assert torch.equal(backbone.state_dict()["model.conv1.0.weight"], plain["conv1.0.weight"])


@pytest.mark.parametrize(
    ("backbone", "file", "told"),
    [
        ("resnet34", "resnet18", "layer1.2"),  # too few blocks
        ("resnet18", "resnet34", "layer1.2"),  # too many
        ("resnet18", "resnet50", "layer1.0"),  # other blocks
        ("resnet18", "mobilenet_v2", "0 of 100"),
    ],
)
def test_weights_of_another_network(backbone: str, file: str, told: str, tmp_path: Path) -> None:
    with torch.device("meta"):  # drawing the weights takes longer than the test
        shapes = getattr(torchvision.models, file)(weights=None).state_dict()
    state = {key: torch.zeros(value.shape) for key, value in shapes.items()}
    text = _refusal(backbone, _saved(tmp_path / "weights.pth", state))
    assert f"do not fit model.backbone={backbone}" in text
    assert told in text


def test_weights_without_one_tensor(tmp_path: Path) -> None:
    state = _full()
    del state["layer4.0.bn1.running_var"]
    text = _refusal(TINY, _saved(tmp_path / "weights.pth", state))
    assert "layer4.0.bn1.running_var" in text


def test_no_such_file() -> None:
    assert "no such file" in _refusal(TINY, "nowhere.pth")


class _Code:
    """What a malicious file holds: unpickling it runs a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))]
)
def test_a_file_with_code_is_refused_and_not_run(
    write: Callable, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pth"
    write({"conv1.weight": _Code(mark)}, file)
    assert "not a file of weights" in _refusal(TINY, str(file))
    assert not mark.exists()
    assert len(recwarn) == 0
    with file.open("rb") as stream, pytest.raises(Exception):  # noqa: B017, PT011
        torch.load(stream, weights_only=True)


def _save_cut(path: Path, **options: bool) -> None:
    torch.save(_full(), path, **options)
    _cut(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_text("hello world\nsecond line\n"), id="text"),
        pytest.param(lambda path: path.write_text('{"conv1.weight": [1, 2]}'), id="json"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(bytes(range(256)) * 9), id="bytes"),
        pytest.param(_save_cut, id="truncated"),
        pytest.param(
            partial(_save_cut, _use_new_zipfile_serialization=False), id="truncated old format"
        ),
        pytest.param(lambda path: torch.save(nn.Linear(2, 2), path), id="pickled network"),
        pytest.param(lambda path: torch.save([1, 2], path), id="list"),
        pytest.param(lambda path: torch.save(torch.zeros(2), path), id="tensor"),
        pytest.param(lambda path: torch.save({"a": 1}, path), id="no tensors"),
    ],
)
def test_files_of_something_else(write: Callable, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    write(file)
    assert f"model.pretrained={file}" in _refusal(TINY, str(file))


def test_damaged_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(_full(), file)
    _cut(file)
    assert "damaged" in _refusal(TINY, str(file))
    file.write_text("hello")
    assert "damaged" in _refusal(TINY, str(file))


# Downloads


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_without_internet_a_download_fails_at_once(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    text = _refusal(name, True)
    assert time.perf_counter() - start < 10
    assert "could be downloaded (http://127.0.0.1:9 cannot be reached" in text
    assert "model.pretrained=PATH" in text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert constants.HF_HUB_OFFLINE is False  # for what comes after


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.utils

    class Session:
        def head(self, url: str, timeout: float) -> None:
            assert url.startswith("http")
            assert timeout <= 10

    asked = []

    def download(name: str, weights: str, depth: int) -> nn.Module:
        asked.append((name, weights))
        raise OSError("disk quota exceeded")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    monkeypatch.setattr(smp.encoders, "get_encoder", download)
    assert "OSError: disk quota exceeded" in _refusal("resnet18", True)
    assert asked == [("resnet18", "imagenet")]
