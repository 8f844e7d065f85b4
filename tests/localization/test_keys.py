"""Every key of the localization pipeline changes what is computed, or does what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from tests.keys import CHOSEN, Outcome, all_keys, tried
from tests.localization.conftest import TINY_ANIMALS
from tests.multitask.test_keys import CHANGES as SHARED_CHANGES
from tests.multitask.test_keys import ELSEWHERE as SHARED_ELSEWHERE

# A key, and overrides that change it. Those before "|" go to both that are compared.
ONE_PASS = [
    "data.refit=true|objective.keep=last",
    "data.draw_seed=1",
    "data.train_images=6",
    "data.augment=[mixup]",
    "data.augment=[rotate]",
    "model.backbone=mobilenet_v2",
    "model.stride=16",
    "model.head=linear",
    "model.head=spatial",
    "model.hidden=32",
    "model.box=raw|model.head=linear",
    "model.box=raw|model.head=spatial loss.name=mse",
    "model.activation=gelu",
    "model.init_scheme=normal",
    "model.norm=group",
    "model.dropout_rate=0.5",
    "model.drop_path_rate=0.5",
    "loss.name=smooth_l1",
    "loss.name=l1",
    "loss.name=mse",
    "loss.name=giou",
    "loss.name=giou|model.head=linear model.box=raw",
    "loss.name=ciou|model.head=linear model.box=raw",
    "loss.name=ciou",
    "loss.name=l1_giou",
    "loss.name=smooth_l1_ciou",
    "loss.name=l1_ciou",
    "loss.box_weight=3.0",
    "loss.iou_weight=3.0",
    "loss.beta=1.0",
    "loss.beta=1.0|loss.name=smooth_l1",
    "loss.beta=0.02|loss.name=smooth_l1",
]

# Those that bite later than in the first batch: in the step after it, or in another epoch.
WHOLE_RUN = [
    "finetuning.freeze_epochs=1|trainer.max_epochs=2",
    "finetuning.backbone_lr_factor=0.1",
    "finetuning.layer_decay=0.5",
]

CHANGES = [*ONE_PASS, *WHOLE_RUN]

ELSEWHERE = {
    "model.pretrained": "test_networks",
    "data.object": "test_readers",
    "data.file": "test_readers",
    "data.annotations": "test_readers",
    "data.crowds": "test_data",
    "data.group_by": "test_data",
    "data.validation": "test_held_out",
    "data.holdout": "test_held_out",
    "data.folds": "test_held_out",
    "data.fold": "test_held_out",
}


@pytest.fixture(scope="module")
def outcome(
    make_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    return Outcome(make_config, tmp_path_factory, TINY_ANIMALS)


@pytest.mark.parametrize("change", ONE_PASS)
def test_key_changes_the_computation(change: str, outcome: Outcome) -> None:
    assert outcome.differs(change)


@pytest.mark.parametrize("change", WHOLE_RUN)
def test_key_changes_a_run(change: str, outcome: Outcome) -> None:
    assert outcome.differs(change, run=True)


def test_same_configuration_gives_the_same_figures(outcome: Outcome) -> None:
    assert outcome.repeats()


def test_every_key_is_looked_at(make_config: Callable[..., DictConfig]) -> None:
    keys = set()
    for name in (
        "animals",
        "voc_boxes data.root=.",
        "csv data.root=.",
        "coco data.root=.",
        "yolo data.root=.",
    ):
        keys |= all_keys(make_config("task=localization", *f"data={name}".split()))
    elsewhere = tried(SHARED_CHANGES) | set(SHARED_ELSEWHERE) | set(ELSEWHERE)
    own = {key for key in keys if key.split(".")[0] in ("model", "loss")}
    assert keys - tried(CHANGES) - elsewhere - CHOSEN == set()
    assert own - tried(CHANGES) == {"model.pretrained"}
