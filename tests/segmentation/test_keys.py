"""Every key of the segmentation pipeline changes what is computed, or does what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from tests.keys import CHOSEN, Outcome, all_keys, tried
from tests.multitask.test_keys import CHANGES as SHARED_CHANGES
from tests.multitask.test_keys import ELSEWHERE as SHARED_ELSEWHERE
from tests.segmentation.conftest import TINY_BEADS

SMP = "model.architecture=smp_unet model.backbone=test_resnet model.depth=null"

# A key, and overrides that change it. Those before "|" go to both that are compared.
ONE_PASS = [
    "data.refit=true|objective.keep=last",
    "data.image_size_schedule=[[1,64]]",
    "data.min_area=40",
    "data.min_distance=40|data.beads=30",
    "data.beads=9",
    "data.draw_seed=1",
    "data.image_size=64",
    "data.train_images=4",
    "data.val_images=3",
    "data.augment=[mixup]",
    "data.augment=[cutmix]",
    "model.architecture=attention_unet",
    "model.architecture=resunet",
    "model.architecture=attention_resunet",
    "model.architecture=nnunet",
    "model.architecture=smp_unet model.depth=null",
    f"model.architecture=unetplusplus|{SMP}",
    f"model.architecture=manet|{SMP}",
    f"model.architecture=fpn|{SMP} data.image_size=64",
    f"model.architecture=upernet|{SMP}",
    f"model.architecture=segformer|{SMP}",
    f"model.architecture=transunet|{SMP}",
    f"model.architecture=deeplabv3plus model.backbone=resnet18|{SMP} data.batch_size=4",
    f"model.backbone=resnet18|{SMP}",
    f"model.width=8|{SMP}",
    f"model.depth=4|{SMP}",
    "model.in_channels=1",
    "model.width=5",
    "model.depth=3",
    "model.activation=gelu",
    "model.init_scheme=normal",
    "model.norm=group",
    "model.norm_momentum=0.01",
    "model.dropout_rate=0.3",
    "model.drop_path_rate=0.5|model.architecture=smp_unet model.backbone=test_resnet model.depth=3",
    "model.dropout_type=channel|model.dropout_rate=0.3",
    "model.dropout_type=block|model.dropout_rate=0.3",
    "model.dropout_type=depth|model.dropout_rate=0.3 model.architecture=attention_resunet",
    "model.dropout_type=depth|model.dropout_rate=0.3 model.architecture=resunet",
    "model.norm=group|model.architecture=nnunet",
    "model.depth=3|model.architecture=nnunet",
    "model.head_norm=true",
    "loss.name=dice",
    "loss.name=focal",
    "loss.name=bce",
    "loss.name=dice_bce",
    "loss.name=tversky",
    "loss.dice_weight=0.4",
    "loss.schedule_epochs=5",
    "loss.pos_alpha=0.75",
    "loss.gamma=1.0",
    "loss.fp_weight=0.6|loss.name=tversky",
    "loss.fn_weight=0.2|loss.name=tversky",
    "loss.smooth=50.0",
    "loss.reduce=image",
    "evaluation.threshold=0.4",
    "evaluation.objects=false",
]

# Those that bite later than in the first batch: in the step after it, or in another epoch.
WHOLE_RUN = [
    "data.image_size_schedule=[[1,[32,64]]]",
]

CHANGES = [*ONE_PASS, *WHOLE_RUN]

ELSEWHERE = {
    "data.mask_values": "test_image_mask",
    "data.page": "test_image_mask",
    "data.foreground": "test_meaning",
    "data.channels": "test_reading",
    "data.intensity": "test_image_mask",
    "data.tile_size": "test_image_mask",
    "data.tile_overlap": "test_image_mask",
    "data.group_by": "test_image_mask",
    "data.validation": "test_held_out",
    "data.holdout": "test_held_out",
    "data.folds": "test_held_out",
    "data.fold": "test_held_out",
    "model.pretrained": "test_networks",
    "data.test_images": "test_module",
}


@pytest.fixture(scope="module")
def outcome(
    make_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    return Outcome(make_config, tmp_path_factory, TINY_BEADS)


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
    for group in ("data=beads", "data=image_mask data.root=."):
        keys |= all_keys(make_config("task=segmentation", *group.split()))
    elsewhere = tried(SHARED_CHANGES) | set(SHARED_ELSEWHERE) | set(ELSEWHERE)
    own = {key for key in keys if key.split(".")[0] in ("model", "loss", "evaluation")}
    assert keys - tried(CHANGES) - elsewhere - CHOSEN == set()
    assert own - tried(CHANGES) == {"model.pretrained"}
