"""Settings of a module that somebody builds, parts of their own, and checkpoints of these."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask import MultitaskModule
from phasewise.errors import UserError
from tests.multitask.plain import (
    CLASSES,
    WHOLE,
    collate,
    loader,
    module,
    samples,
    trainer,
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"class_names": "abc"}, "class_names='abc': must be a list of different names"),
        ({"class_names": ["one"]}, "class_names=['one']: must be a list"),
        ({"image_size": 50}, "image_size=50: must be a multiple of 32"),
        ({"segmentation_head": "unett"}, "segmentation_head=unett: not one of unet, fcn, "),
        ({"detection_head": "fpm"}, "detection_head=fpm: not one of fpn, none; did you mean fpn?"),
        (
            {"segmentation_head": "none", "detection_head": "none"},
            "segmentation_head=none and detection_head=none: nothing is left to train",
        ),
        (
            {"loss_class_weights": "balance"},
            "loss_class_weights=balance: not one of none, balanced",
        ),
        ({"loss_class_weights": [1, 2]}, "loss_class_weights=[1, 2]: must be none, balanced, or 3"),
        (
            {"loss_class_weights": [1, 2, float("nan")]},
            "loss_class_weights=[1, 2, nan]: must be none, balanced, or 3",
        ),
        (
            {"segmentation_head": {"_target_": "nowhere.Head"}},
            "segmentation_head: no package nowhere here",
        ),
        (
            {"segmentation_head": {"_target_": "somebodys_heads.Head", "widht": 3}},
            "segmentation_head: somebodys_heads.Head raised TypeError: Head.__init__() got",
        ),
        (
            {"segmentation_head": {"_target_": "builtins.list"}},
            "segmentation_head: builtins.list raised TypeError: list expected at most 1 argument",
        ),
        ({"segmentation_head": {"width": 3}}, "segmentation_head: {'width': 3} has no _target_"),
        (
            {"loss_segmentation": {"_target_": "builtins.dict"}},
            "loss_segmentation: builtins.dict makes a dict, which is no torch Module",
        ),
        (
            {
                "loss_segmentation": {"_target_": "torch.nn.Identity"},
                "loss_class_weights": "balanced",
            },
            "loss_class_weights=balanced: they are of the project's own losses",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(told)}[^\n]*$"):
        module(**settings)


HEAD = """
from torch import nn

class Head(nn.Module):
    def __init__(self, channels, num_classes, width, up=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels[-1], width, 1), nn.ReLU(), nn.Conv2d(width, num_classes, 1)
        )
        self.up = up

    def forward(self, features):
        return nn.functional.interpolate(self.layers(features[-1]), scale_factor=self.up)
"""
OWN = {"_target_": "somebodys_heads.Head", "width": 3}


@pytest.fixture(autouse=True)
def somebodys_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package outside of the project."""
    (tmp_path / "somebodys_heads.py").write_text(HEAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_heads", raising=False)


def test_a_head_and_a_loss_of_ones_own(tmp_path: Path) -> None:
    own_loss = {"_target_": "torch.nn.CrossEntropyLoss", "ignore_index": 255}
    trained = module(segmentation_head=OWN, loss_segmentation=own_loss)
    assert type(trained.network.segmentation).__name__ == "Head"
    rows = samples(10)
    for row in rows[:5]:
        row["mask"][:] = 255  # the mean over no pixel is NaN, but nobody asks for it
    used = trainer(max_epochs=1)
    used.fit(trained, loader(rows=rows), loader(rows=rows))
    assert used.callback_metrics["train/loss/segmentation"].isfinite()
    used.save_checkpoint(file := tmp_path / "a.ckpt")
    both = (
        r"\(loss_segmentation=torch.nn.CrossEntropyLoss, segmentation_head=somebodys_heads.Head\)"
    )
    with pytest.raises(UserError, match=rf"a\.ckpt names code from outside .*{both}"):
        MultitaskModule.load_from_checkpoint(file)
    with pytest.raises(UserError, match=r"load_from_checkpoint\(path, loss_segmentation=\.\.\.\)$"):
        MultitaskModule.load_from_checkpoint(file, segmentation_head=OWN)
    again = MultitaskModule.load_from_checkpoint(
        file, segmentation_head=OWN, loss_segmentation=own_loss
    )
    batch = collate(rows)
    assert torch.equal(
        again.eval().predict_step(batch)["mask"], trained.eval().predict_step(batch)["mask"]
    )


def test_what_an_own_head_returns_is_looked_at() -> None:
    wrong = module(segmentation_head={**OWN, "up": 16})
    told = (
        r"segmentation_head: Head returned a tensor of the shape \(2, 3, 32, 32\); wanted is logits"
    )
    with pytest.raises(UserError, match=told):
        wrong.training_step(WHOLE, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"hyper_parameters": {"class_names": CLASSES, "_target_": "os.system"}},
        {"hparams": {"segmentation_head": {"_target_": "os.system"}}, "hyper_parameters": {}},
        {"hyper_parameters": {"network": {"inner": [{"_target_": "torch.nn.Linear"}]}}},
    ],
)
def test_a_checkpoint_chooses_no_code(arguments: dict[str, Any], tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {}, "pytorch-lightning_version": "2.5.0", **arguments}, tmp_path / "a"
    )
    with pytest.raises(UserError, match="code from outside of this project"):
        MultitaskModule.load_from_checkpoint(tmp_path / "a")


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "thing": Path()}, tmp_path / "a")
    with pytest.raises(UserError, match="holds more than weights and settings") as error:
        MultitaskModule.load_from_checkpoint(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_the_projects_own_parts_load_by_the_path(tmp_path: Path) -> None:
    own = {"_target_": "multitask.networks.Unet", "dropout": 0.0}
    trained = module(segmentation_head=own)
    used = trainer(max_epochs=1)
    used.fit(trained, loader(rows=samples(5)))
    used.save_checkpoint(tmp_path / "a.ckpt")
    again = MultitaskModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.state_dict().keys() == trained.state_dict().keys()
