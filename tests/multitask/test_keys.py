"""Every key that a person types changes what is computed, or does what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from tests.conftest import TINY
from tests.keys import CHOSEN, Outcome, all_keys, tried

# A key, and overrides that change it. Those before "|" go to both that are compared.
ONE_PASS = [
    "seed=1",
    "data=shapes data.image_size=64",
    "data.refit=true|objective.keep=last",
    "data.batch_size=8",
    "data.augment=[]",
    "data.augment=[mixup]",
    "data.augment=[cutmix] model.detection_head=none|model.detection_head=none",
    "data.augment=[flip,color_jitter]",
    "data.train_images=6",
    "data.val_images=3",
    "data.draw_seed=1",
    "model.backbone=resnet34",
    "model.backbone=mobilenet_v2",
    "model.segmentation_head=fcn",
    "model.segmentation_head=deeplabv3plus",
    "model.segmentation_head=none objective.metric=val/mAP",
    "model.detection_head=none",
    "model.activation=relu|model.backbone=mobilenet_v2",
    "model.activation=leaky_relu",
    "model.activation=gelu",
    "model.activation=silu",
    "model.activation=elu",
    "model.activation=mish",
    "model.init_scheme=kaiming",
    "model.init_scheme=xavier",
    "model.init_scheme=normal",
    "model.init_scheme=orthogonal",
    "model.norm=group",
    "model.dropout_rate=0.5",
    "model.drop_path_rate=0.5",
    "model.head_channels=64",
    "model.head_depth=1",
    "loss.segmentation=dice",
    "loss.segmentation=focal",
    "loss.segmentation=ce_dice",
    "loss.class_weights=balanced",
    "loss.label_smoothing=0.1",
    "loss.focal_gamma=0.5|loss.segmentation=focal",
    "loss.detection={_target_:tests.outside.networks.Everywhere}",
    "loss.boxes=smooth_l1",
    "loss.balance=pcgrad",
    "loss.segmentation_weight=0.5",
    "loss.detection_weight=0.5",
]

# Those that bite later than in the first batch: in the step after it, or in another epoch.
WHOLE_RUN = [
    "loss.balance=uncertainty trainer.max_epochs=2|trainer.max_epochs=2",
    "loss.balance=dwa trainer.max_epochs=3|trainer.max_epochs=3",
    "loss.balance=gradnorm trainer.max_epochs=2|trainer.max_epochs=2",
    "optimizer=adam",
    "optimizer=amsgrad|optimizer=adam trainer.max_epochs=3 scheduler=none",
    "optimizer=sgd",
    "optimizer=rmsprop",
    "optimizer.lr=1e-4",
    "optimizer.weight_decay=0.5",
    "optimizer.momentum=0|optimizer=sgd scheduler=none",
    "optimizer.nesterov=true|optimizer=sgd scheduler=none",
    "optimizer.alpha=0.5|optimizer=rmsprop scheduler=none",
    "optimizer.momentum=0.5|optimizer=rmsprop scheduler=none",
    "scheduler=none",
    "scheduler=cosine|scheduler=none",
    "scheduler.warmup_epochs=1|scheduler=cosine trainer.max_epochs=2",
    "scheduler.min_lr=5e-4|scheduler=cosine",
    "scheduler=multistep scheduler.milestones=[1]|trainer.max_epochs=2 scheduler=none",
    "scheduler.milestones=[1]|scheduler=multistep scheduler.milestones=[2] trainer.max_epochs=3",
    "scheduler.gamma=0.5|scheduler=multistep scheduler.milestones=[1] trainer.max_epochs=2",
    "scheduler.warmup_fraction=0.6",
    "trainer.max_epochs=2",
    "trainer.precision=bf16-mixed",
    "trainer.gradient_clip_val=0.01",
    "trainer.gradient_clip_algorithm=value",
    "trainer.gradient_clip_algorithm=tensor_norm|trainer.gradient_clip_val=0.01",
    "trainer.accumulate_grad_batches=2",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1|data.batch_size=2",
    "trainer.check_val_every_n_epoch=2|trainer.max_epochs=2",
]

CHANGES = [*ONE_PASS, *WHOLE_RUN]

# Keys that leave the figures alone: other tests prove that they do what they say.
ELSEWHERE = {
    "test": "test_run",
    "init_from": "test_run",
    "logger": "test_logs",
    "figures.images": "test_run",
    "finetuning.freeze_epochs": "test_finetuning",
    "finetuning.backbone_lr_factor": "test_finetuning",
    "finetuning.layer_decay": "test_finetuning",
    "finetuning.l2_sp": "test_finetuning",
    "finetuning.ema": "test_averaging",
    "finetuning.interpolate": "test_averaging",
    "early_stopping.patience": "test_run",
    "early_stopping.min_delta": "test_run",
    "data.cache_dir": "test_data",
    "data.ram_limit_mb": "test_data",
    "data.on_bad": "test_data",
    "data.check": "test_data_check",
    "data.resize": "test_data",
    "data.test_images": "test_run",
    "data.root": "test_data",
    "data.split_seed": "test_data",
    "data.group_by": "test_voc_files",
    "data.validation": "test_held_out",
    "data.holdout": "test_held_out",
    "data.folds": "test_held_out",
    "data.fold": "test_held_out",
    "data.coordinates": "test_voc_boxes",
    "data.size_tag": "test_voc_boxes",
    "data.mask_values": "test_voc_masks",
    "data.colors": "test_voc_masks",
    "data.annotations": "test_annotated",
    "data.crowds": "test_annotated",
    "data.file": "test_yolo",
    "data.download": "test_data",
    "model.pretrained": "test_networks",
    "objective.mode": "test_run",
    "objective.keep": "test_run",
    "objective.metric": "test_run",
    "scheduler.monitor": "test_optim",
    "scheduler.mode": "test_optim",
    "scheduler.factor": "test_optim",
    "scheduler.patience": "test_optim",
    "trainer.pause_after": "test_pause",
    "trainer.auto_accumulate": "test_memory",
    "trainer.accelerator": "test_devices",
    "trainer.devices": "test_devices",
    "trainer.strategy": "test_devices",
    "trainer.compile": "test_compile",
    "trainer.deterministic": "test_run",
    "trainer.enable_progress_bar": "test_run",
    "trainer.train_metrics": "test_train_metrics",
    "trainer.log_every_n_steps": "test_steps",
}


@pytest.fixture(scope="module")
def outcome(
    make_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    return Outcome(make_config, tmp_path_factory, (*TINY, "model.head_channels=32"))


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
    ours = ("shapes", "voc2012 data.download=true")
    asked = (f"{name} data.root=." for name in ("voc", "coco", "yolo"))
    for group in (f"data={name}" for name in (*ours, *asked)):
        keys |= all_keys(make_config(*group.split()))
    for optimizer in ("adam", "amsgrad", "adamw", "sgd", "rmsprop"):
        keys |= all_keys(make_config(f"optimizer={optimizer}"))
    for scheduler in ("none", "plateau", "cosine", "multistep", "onecycle"):
        keys |= all_keys(make_config(f"scheduler={scheduler}"))
    assert keys - tried(CHANGES) - set(ELSEWHERE) - CHOSEN == set()
