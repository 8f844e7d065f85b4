"""Folders of weights: what is taken of them, and how they are filled."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from phasewise.errors import UserError
from phasewise.networks import backbones
from phasewise.networks.backbones import build_backbone
from phasewise.networks.weights import Download
from phasewise.training.fetching import fetch_weights
from reid import backbones as of_reid

TINY = "test_resnet"


def test_a_backbone_takes_its_file_of_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = timm.create_model(TINY).state_dict()
    torch.save(state, tmp_path / f"{TINY}.pth")
    torch.save({}, tmp_path / "resnet18.pth")
    with caplog.at_level(logging.INFO):
        found = build_backbone(TINY, 64, str(tmp_path)).state_dict()
    shared = [key for key in state if f"model.{key}" in found]
    assert len(shared) > 20
    assert all(torch.equal(found[f"model.{key}"], state[key]) for key in shared)
    assert f"weights  {TINY} from {tmp_path}/{TINY}.pth" in caplog.text
    with pytest.raises(UserError, match="no weights for resnet34 among 2 files"):
        build_backbone("resnet34", 64, str(tmp_path))


def test_a_folder_is_filled_once_and_serves_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = backbones._build

    def downloaded(
        name: str, size: int, depth: int, download: bool = False, drop_path_rate: float = 0.0
    ) -> Any:
        if download:
            built.append(name)
        return build(name, size, depth)

    monkeypatch.setattr(backbones, "_build", downloaded)
    monkeypatch.setattr(backbones, "_hub", nullcontext)
    folder = tmp_path / "new" / "weights"
    target = "multitask.module.MultitaskModule"
    assert fetch_weights(target, TINY, 64, str(folder)) == f"{TINY}: {folder}/{TINY}.pth"
    assert fetch_weights(target, TINY, 64, str(folder)).endswith(".pth was there")
    assert built == [TINY]
    assert [path.name for path in folder.iterdir()] == [f"{TINY}.pth"]
    kept = torch.load(folder / f"{TINY}.pth", weights_only=True)
    found = build_backbone(TINY, 64, str(folder)).state_dict()
    assert all(torch.equal(found[key], value) for key, value in kept.items())


def test_bodies_of_reid_share_the_file_of_the_network_that_they_are_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    state = torchvision.models.resnet18(num_classes=1).state_dict()
    asked: list[str] = []

    def downloaded(body: str) -> Any:
        asked.append(body)
        return state

    monkeypatch.setattr(of_reid, "_download", downloaded)
    target = "reid.module.ReidModule"
    assert fetch_weights(target, "resnet18_se", 64, str(tmp_path)).endswith("resnet18.pth")
    assert fetch_weights(target, "resnet18_fc512", 64, str(tmp_path)).endswith("was there")
    assert asked == ["resnet18"]
    network, _ = of_reid.build_backbone("resnet18_nonlocal", 64, pretrained=str(tmp_path))
    assert torch.equal(network.state_dict()["conv1.weight"], state["conv1.weight"])


def test_a_download_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fails() -> Any:
        raise UserError("no internet")

    with pytest.raises(UserError, match="no internet"):
        Download(str(tmp_path)).bring(["resnet18"], fails)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["file/w", "made"])
def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "made" / "resnet18.pth").mkdir(parents=True)  # where the file would go
    with pytest.raises(UserError, match=r"cannot be written: .*\nmodel.pretrained=FOLDER names"):
        Download(str(tmp_path / folder)).bring(["resnet18"], dict)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["resnet18.pth"]


def test_a_call_that_was_killed_leaves_nothing_that_is_taken_for_weights(tmp_path: Path) -> None:
    (tmp_path / ".resnet18.pth.123").write_bytes(b"PK a part of it")
    folder = Download(str(tmp_path))
    folder.bring(["resnet18"], lambda: {"a": torch.ones(2)})
    assert folder.brought == {"resnet18": (tmp_path / "resnet18.pth", True)}
    assert [path.name for path in tmp_path.iterdir()] == ["resnet18.pth"]
    assert torch.load(tmp_path / "resnet18.pth", weights_only=True)["a"].tolist() == [1, 1]
