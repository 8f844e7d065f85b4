"""Types, bounds and allowed values of the multi-task configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from phasewise.config.augment import NO_BOXES, augment_names
from phasewise.config.backbone_names import without_drop_path
from phasewise.config.fields import (
    Activation,
    BackboneName,
    BelowOne,
    ByTarget,
    Count,
    Flag,
    Folder,
    InitScheme,
    Node,
    NonNegative,
    Norm,
    Pretrained,
    Seed,
    Text,
    message,
)
from phasewise.config.held_out import SplitConfig
from phasewise.config.schema import DataConfig, RunConfig, Task
from phasewise.config.targets import own_part
from phasewise.errors import Problem

HEAD_METRICS = {
    "segmentation_head": ("val/mIoU", "val/pixel_acc"),
    "detection_head": ("val/mAP", "val/mAP50"),
}
"""Which head a metric comes from."""


Colour = Annotated[
    list[Annotated[int, Field(ge=0, le=255)]],
    Field(min_length=3, max_length=3),
    message("must be [red, green, blue], each 0 to 255"),
]


class ShapesData(DataConfig):
    """``conf/data/shapes.yaml``"""

    target: Literal["multitask.data.ShapesData"] = Field(alias="_target_")
    train_images: Count
    val_images: Count
    test_images: Count
    draw_seed: Seed


class VocData(SplitConfig):
    """``conf/data/voc.yaml``"""

    target: Literal["multitask.data.VocData"] = Field(alias="_target_")
    root: Folder
    coordinates: Literal["auto", "one_based", "zero_based"]
    size_tag: Literal["auto", "ignore"]
    mask_values: Literal["auto", "indices", "binary", "none"]
    colors: dict[str, Colour] | None


class Voc2012Data(DataConfig):
    """``conf/data/voc2012.yaml``"""

    target: Literal["multitask.data.Voc2012Data"] = Field(alias="_target_")
    root: Text
    download: Flag
    split_seed: Seed


class CocoData(SplitConfig):
    """``conf/data/coco/multitask.yaml``"""

    target: Literal["multitask.annotated.CocoData"] = Field(alias="_target_")
    root: Folder
    annotations: Text
    crowds: Literal["auto", "objects", "ignore"]


class YoloData(SplitConfig):
    """``conf/data/yolo/multitask.yaml``"""

    target: Literal["multitask.annotated.YoloData"] = Field(alias="_target_")
    root: Folder
    file: Text


class ReaderData(DataConfig):
    """A file of a user's own with ``_target_: multitask.data.ReaderData``."""

    target: Literal["multitask.data.ReaderData"] = Field(alias="_target_")
    root: Folder
    reader: Annotated[dict[str, Any], own_part(positional=1, of_data=True)]


Data = Annotated[
    ShapesData | VocData | Voc2012Data | CocoData | YoloData | ReaderData,
    ByTarget(),
]


HeadWidth = Annotated[
    int, Field(ge=32, multiple_of=32), message("must be a whole number, a multiple of 32")
]


class Model(Node):
    """The network."""

    backbone: BackboneName
    pretrained: Pretrained
    segmentation_head: Annotated[
        str | dict[str, Any], own_part("unet", "fcn", "deeplabv3plus", "none", positional=2)
    ]
    detection_head: Annotated[str | dict[str, Any], own_part("fpn", "none", positional=2)]
    activation: Activation
    init_scheme: InitScheme
    norm: Norm
    dropout_rate: BelowOne
    drop_path_rate: BelowOne
    head_channels: HeadWidth
    head_depth: Count


class Loss(Node):
    """The losses and how the two tasks share them."""

    segmentation: Annotated[
        str | dict[str, Any], own_part("cross_entropy", "dice", "focal", "ce_dice")
    ]
    class_weights: Literal["none", "balanced"]
    label_smoothing: BelowOne
    focal_gamma: NonNegative
    detection: Annotated[str | dict[str, Any], own_part("fcos")]
    boxes: Literal["smooth_l1", "giou"]
    balance: Literal["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad"]
    segmentation_weight: NonNegative
    detection_weight: NonNegative


class MultitaskConfig(RunConfig):
    """The whole config of a multi-task run."""

    METRICS: ClassVar = {
        "val/loss": "min",
        "val/mIoU": "max",
        "val/pixel_acc": "max",
        "val/mAP": "max",
        "val/mAP50": "max",
    }
    FRACTIONS: ClassVar = METRICS.keys() - {"val/loss"}

    task: Task[Literal["multitask.module.MultitaskModule"]]
    data: Data
    model: Model
    loss: Loss

    def conflicts(self) -> Iterator[Problem]:
        """Also: a network without heads, metrics of a head that is not there, absent data."""
        yield from super().conflicts()
        rate = self.model.drop_path_rate
        if rate and (reason := without_drop_path(self.model.backbone)):
            yield Problem(f"model.drop_path_rate={rate:g}", reason)
        data = self.data
        if (
            isinstance(data, Voc2012Data)
            and not data.download
            and not Path(data.root).expanduser().is_dir()
        ):
            reason = "no such folder; data.download=true fetches VOC 2012 into it (2 GB)"
            yield Problem(f"data.root={data.root}", reason)
        if "cutmix" in augment_names(data.augment) and self.model.detection_head != "none":
            reason = f"{NO_BOXES}; it goes with model.detection_head=none"
            yield Problem("data.augment: cutmix", reason)
        if self.loss.balance == "pcgrad" and self.finetuning.l2_sp:
            reason = "projects gradients of the two losses, of which the distance is none"
            yield Problem("loss.balance=pcgrad finetuning.l2_sp > 0", reason)
        absent = [head for head in HEAD_METRICS if getattr(self.model, head) == "none"]
        if len(absent) == len(HEAD_METRICS):
            names = " ".join(f"model.{head}=none" for head in absent)
            yield Problem(names, "nothing is left to train; choose at least one head")
            return
        gone = {metric: head for head in absent for metric in HEAD_METRICS[head]}
        left = ", ".join(metric for metric in self.METRICS if metric not in gone)
        for key, metric in self.watched().items():
            if metric in gone:
                reason = f"not there with model.{gone[metric]}=none; one of {left}"
                yield Problem(f"{key}={metric}", reason)
