"""Networks and losses of a user's own in the place of a name, in each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from localization import LocalizationModule
from phasewise.errors import UserError
from phasewise.training.module import TaskModule
from reid import ReidModule
from segmentation import SegmentationModule
from tests.conftest import ROOT, TINY_RUNS
from tests.keys import one_pass

Make = Callable[..., DictConfig]

LOGITS = torch.zeros(2, 3, 32, 32)


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that the project does not know."""
    monkeypatch.syspath_prepend(ROOT / "tests")


def own(name: str, more: str = "") -> str:
    return f"{{_target_:outside.networks.{name}{more}}}"


@pytest.mark.parametrize(
    ("task", "key", "part", "inside"),
    [
        ("multitask", "model.detection_head", own("Detector"), "network.detection.head.layers"),
        ("multitask", "model.detection_head", own("OneLevel"), "network.detection.head.layer"),
        ("multitask", "loss.detection", own("Everywhere"), "network.detection.classifier"),
        ("segmentation", "model.architecture", own("Mask", ",width:4"), "network.network.network"),
        ("segmentation", "loss.name", own("Pixels"), "network.network"),
        ("localization", "loss.name", own("Corners"), "network.head"),
        ("reid", "model.pooling", own("Power"), "network.pool.part.scale"),
        ("reid", "model.neck", "{_target_:torch.nn.LayerNorm}", "network.neck.part.weight"),
        ("reid", "loss.metric", own("Proxies"), "loss.metric.loss.vectors"),
    ],
)
def test_a_part_of_ones_own_is_trained(
    task: str, key: str, part: str, inside: str, make_config: Make
) -> None:
    words = [f"task={task}", *TINY_RUNS[task]]
    if key == "model.architecture":
        words.remove("model.width=4")
    found = one_pass(make_config(*words, f"{key}={part}"))
    gradients = {name: it for name, it in found.items() if name.startswith(f"gradient/{inside}")}
    assert gradients
    assert max(gradients.values()) > 0
    assert found != one_pass(make_config(*words))


@pytest.mark.parametrize(
    ("task", "word", "told"),
    [
        (
            "multitask",
            f"model.detection_head={own('Detector', ',extr:1')}",
            "model.detection_head.extr=1: outside.networks.Detector takes no such argument; did "
            "you mean extra?",
        ),
        (
            "segmentation",
            f"model.architecture={own('Mask')}",
            "model.architecture.width: must be given",
        ),
        (
            "segmentation",
            f"loss.name={own('Pixel')}",
            "loss.name._target_=outside.networks.Pixel: outside.networks has no Pixel; did you "
            "mean Pixels?",
        ),
        ("segmentation", "loss.name=dic", "not one of dice, focal"),
        (
            "segmentation",
            f"model.width=8 model.architecture={own('Mask', ',width:4')}",
            "model.width=8: an architecture of one's own has its own arguments",
        ),
        ("reid", "loss.metric={scale:3}", "loss.metric: a part of one's own needs _target_"),
        (
            "reid",
            f"loss.metric={own('Proxies', ',margin:3')}",
            "loss.metric.margin=3: outside.networks.Proxies takes no such argument",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything(
    task: str, word: str, told: str, make_config: Make
) -> None:
    with pytest.raises(UserError) as error:
        make_config(f"task={task}", *word.split())
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("task", "word", "told"),
    [
        (
            "multitask",
            f"model.detection_head={own('Detector', ',extra:2')}",
            "detection_head: Detector returned a tensor of the shape (4, 21, 7); wanted is "
            "class_logits (B, P, K), here (4, 21, 5)",
        ),
        (
            "multitask",
            "model.detection_head={_target_:torch.nn.Linear,bias:false}",
            "detection_head: torch.nn.Linear raised TypeError: ",
        ),
        (
            "multitask",
            f"loss.detection={own('Vector')}",
            "loss_detection: Vector returned a tensor of the shape (42,); wanted is a scalar",
        ),
        (
            "segmentation",
            f"model.architecture={own('Mask', ',width:4,classes:2')}",
            "model.architecture: Mask returned a tensor of the shape (1, 2, 32, 32); wanted is "
            "logits (B, 1, S, S), here (1, 1, 32, 32)",
        ),
        (
            "segmentation",
            f"model.architecture={own('Mask', ',width:4,in_channels:1')}",
            "model.architecture=Mask: cannot take 32x32 images (RuntimeError: ",
        ),
        (
            "localization",
            f"loss.name={own('Vector')}",
            "loss.name: Vector returned a tensor of the shape (16,); wanted is a scalar",
        ),
        (
            "reid",
            f"model.pooling={own('Halved')}",
            "model.pooling: Halved returned a tensor of the shape (8, 288, 1, 1); wanted is "
            "vectors (B, C), here (8, 576)",
        ),
        ("reid", "model.neck={_target_:builtins.str}", "which is no torch Module"),
    ],
)
def test_what_a_part_returns_is_looked_at(
    task: str, word: str, told: str, make_config: Make
) -> None:
    words = [f"task={task}", *TINY_RUNS[task], word]
    if "architecture" in word:
        words.remove("model.width=4")
    with pytest.raises(UserError) as error:
        one_pass(make_config(*words))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "settings", "key", "target"),
    [
        (SegmentationModule, {"image_size": 32}, "architecture", "Mask"),
        (SegmentationModule, {"image_size": 32, "width": 4}, "loss", "Pixels"),
        (LocalizationModule, {"image_size": 32, "backbone": "test_resnet"}, "loss", "Corners"),
        (
            ReidModule,
            {"num_classes": 3, "image_size": 32, "backbone": "mobilenet_v3_small"},
            "pooling",
            "Power",
        ),
    ],
)
def test_in_a_notebook_and_from_a_checkpoint(
    kind: type[TaskModule], settings: dict[str, object], key: str, target: str, tmp_path: Path
) -> None:
    """A checkpoint restores only what the caller names."""
    part = {"_target_": f"outside.networks.{target}"} | ({"width": 4} if target == "Mask" else {})
    module = kind(**settings, **{key: part}).eval()
    checkpoint = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.5.0",
    }
    torch.save(checkpoint, file := tmp_path / "a.ckpt")
    told = rf"code from outside .*\({key}=outside\.networks\.{target}\)"
    with pytest.raises(UserError, match=told):
        kind.load_from_checkpoint(file)
    again = kind.load_from_checkpoint(file, **{key: part}).eval()
    images = torch.rand(2, 3, 32, 32)
    for one, other in zip(module(images).values(), again(images).values(), strict=True):
        assert torch.equal(one, other)
