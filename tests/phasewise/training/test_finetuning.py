"""Fine-tuning: what is refused, learning rates, a frozen backbone, and what counts as brought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from localization.module import LocalizationModule
from multitask.module import MultitaskModule
from phasewise.config.finetuning_schema import DEFAULTS
from phasewise.config.fingerprint import fingerprint
from phasewise.errors import UserError
from phasewise.training.finetuning import Finetuning
from reid.module import ReidModule
from segmentation.module import SegmentationModule
from tests.conftest import TINY_RUNS

Make = Callable[..., DictConfig]

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 64}
MODULES: dict[str, Callable[..., Any]] = {
    "localization": lambda **more: LocalizationModule(**SMALL, **more),
    "multitask": lambda **more: MultitaskModule(
        **SMALL, class_names=["background", "x"], head_channels=32, **more
    ),
    "reid": lambda **more: ReidModule(**SMALL, num_classes=3, **more),
    "segmentation": lambda **more: SegmentationModule(
        **SMALL, architecture="smp_unet", width=4, **more
    ),
}


def test_defaults_are_those_of_the_config(make_config: Make) -> None:
    assert Finetuning() == Finetuning.of(DEFAULTS)
    for task in TINY_RUNS:
        assert dict(make_config(f"task={task}").finetuning) == DEFAULTS


CAME = "finetuning.interpolate=0.5: wants weights to start from: model.pretrained or init_from"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("finetuning.freeze_epochs=1", "must be less than trainer.max_epochs=1"),
        ("finetuning.layer_decay=0", "must be a number in (0, 1]"),
        ("finetuning.ema=1", "must be a number in (0, 1) or null"),
        ("finetuning.l2_sp=-1", "must be a number >= 0"),
        ("finetuning.interpolate=1.5", "must be a number in [0, 1], a list of different ones"),
        ("finetuning.interpolate=[0.5,0.5]", "a list of different ones"),
        ("finetuning.interpolate=[]", "a list of different ones"),
        ("finetuning.interpolate=0.5", CAME),
        ("finetuning.l2_sp=0.1", "wants weights to start from"),
        ("finetuning.ema=0.9 callbacks=swa", "which averages weights too"),
        ("finetuning.emma=0.9", "ema"),
        ("task=segmentation finetuning.layer_decay=0.5", "model.architecture=unet has no backbone"),
        (
            "trainer.max_epochs=3 trainer.devices=2 finetuning.freeze_epochs=1",
            "wants trainer.strategy=ddp_find_unused_parameters_true",
        ),
        (
            "scheduler=cosine scheduler.min_lr=1e-4 finetuning.backbone_lr_factor=0.1",
            "must be below the backbone's learning rate, 0.0001",
        ),
        (
            "optimizer._target_=torch.optim.NAdam ~optimizer.lr finetuning.layer_decay=0.5",
            "is a share of optimizer.lr",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(make_config: Make, words: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        make_config("trainer.max_epochs=1", *words.split())
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "change", ["ema=0.9", "layer_decay=0.5", "freeze_epochs=1", "backbone_lr_factor=0.1"]
)
def test_each_key_counts_for_the_fingerprint(make_config: Make, change: str) -> None:
    one, other = make_config(), make_config(f"finetuning.{change}")
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("task", MODULES)
def test_rates_of_every_task(task: str) -> None:
    """The optimizer's groups: what is new first, then the backbone's stages, all weights once."""
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.4}
    settings = {"layer_decay": 0.5, "backbone_lr_factor": 0.1}
    module = MODULES[task](optimizer=optimizer, finetuning=settings)
    groups = module.finetuning.groups(module.parameter_groups(), module.network, optimizer)
    rates = [group["lr"] for group in groups]
    assert rates[0] == 0.4
    assert rates[1:4] == pytest.approx([0.04, 0.02, 0.01])
    trained = [p for group in module.parameter_groups() for p in group["params"]]
    assert {*trained} == {p for group in groups for p in group["params"]}
    assert len(trained) == sum(len(group["params"]) for group in groups)
    assert MODULES[task]().finetuning.has_rates is False


@pytest.mark.parametrize("task", MODULES)
def test_every_task_can_freeze_its_backbone(task: str) -> None:
    module = MODULES[task](finetuning={"freeze_epochs": 1}).train()
    module.finetuning.freeze(module.network, 0)
    backbone = module.network.inner_backbone()
    outputs = module(torch.randn(2, 3, 64, 64))
    sum(value.sum() for value in outputs.values()).backward()
    assert all(p.grad is None for p in backbone.parameters())
    assert any(p.grad is not None for p in module.parameters())
    module.finetuning.freeze(module.network, 1)
    assert backbone.training


def test_a_network_without_a_backbone_is_told() -> None:
    module = SegmentationModule(width=4, finetuning={"layer_decay": 0.5})
    with pytest.raises(UserError, match=r"finetuning\.layer_decay: .* has no backbone"):
        module.finetuning.groups(module.parameter_groups(), module.network, {"lr": 1})
    with pytest.raises(UserError, match="optimizer must have an 'lr'"):
        module.finetuning.groups(module.parameter_groups(), module.network, {})
    with pytest.raises(UserError, match=r"finetuning\.emma: .*ema"):
        SegmentationModule(finetuning={"emma": 0.5})


def test_arguments_of_older_checkpoints_are_left_aside(tmp_path: Any) -> None:
    module = LocalizationModule(**SMALL)
    old = {**module.hparams, "finetuning_freeze_epochs": 0, "finetuning_layer_decay": 0.5}
    del old["finetuning"]
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": old,
        "pytorch-lightning_version": "2.6.0",
    }
    torch.save(content, tmp_path / "old.ckpt")
    again = LocalizationModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert again.finetuning == Finetuning()
