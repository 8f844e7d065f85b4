"""Types, bounds and allowed values of the multi-task configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, field_validator

from common.backbone_names import is_backbone, smp_names
from common.errors import Problem
from common.help import did_you_mean
from common.schema import (
    BelowOne,
    Count,
    DataConfig,
    Flag,
    Module,
    Node,
    NonNegative,
    Plateau,
    RunConfig,
    Seed,
    Task,
    Text,
    tagged,
    told,
    wrong,
)

HEAD_METRICS = {
    "segmentation_head": ("val/mIoU", "val/pixel_acc"),
    "detection_head": ("val/mAP", "val/mAP50"),
}
"""Which head a metric comes from."""


class ShapesData(DataConfig):
    """``conf/data/shapes.yaml``"""

    target: Literal["multitask.data.ShapesData"] = Field(alias="_target_")
    train_images: Count
    val_images: Count
    test_images: Count
    draw_seed: Seed


class VocData(DataConfig):
    """``conf/data/voc.yaml``"""

    target: Literal["multitask.data.VocData"] = Field(alias="_target_")
    root: Text
    split_seed: Seed

    @field_validator("root")
    @classmethod
    def there(cls, value: str) -> str:
        """A data set of one's own has no place by default."""
        if not Path(value).expanduser().is_dir():
            raise wrong("no such folder")
        return value


class Voc2012Data(DataConfig):
    """``conf/data/voc2012.yaml``"""

    target: Literal["multitask.data.Voc2012Data"] = Field(alias="_target_")
    root: Text
    download: Flag
    split_seed: Seed


Data = Annotated[
    Annotated[ShapesData, Tag("shapes")]
    | Annotated[VocData, Tag("voc")]
    | Annotated[Voc2012Data, Tag("voc2012")],
    tagged(
        {
            "multitask.data.ShapesData": "shapes",
            "multitask.data.VocData": "voc",
            "multitask.data.Voc2012Data": "voc2012",
        },
        key="_target_",
        text="this task reads only data=shapes, voc, voc2012",
    ),
]


def backbone(name: str) -> str:
    """A name that SMP or timm knows."""
    if not is_backbone(name):
        near = did_you_mean(name, smp_names())
        raise wrong(f"neither an SMP encoder nor a timm architecture{near}")
    return name


def weights(value: Any) -> bool | str:
    """``model.pretrained``: a switch or an existing file."""
    if isinstance(value, bool) or (isinstance(value, str) and Path(value).is_file()):
        return value
    raise wrong("must be true, false or an existing weights file")


HeadWidth = Annotated[
    int, Field(ge=32, multiple_of=32), told("must be a whole number, a multiple of 32")
]


class Model(Node):
    """The network."""

    backbone: Annotated[Text, AfterValidator(backbone)]
    pretrained: Annotated[bool | str, BeforeValidator(weights)]
    segmentation_head: Literal["unet", "fcn", "deeplabv3plus", "none"]
    detection_head: Literal["fpn", "none"]
    activation: Literal["native", "relu", "leaky_relu", "gelu", "silu", "elu", "mish"]
    init_scheme: Literal["native", "kaiming", "xavier", "normal", "orthogonal"]
    norm: Literal["batch", "group"]
    dropout_rate: BelowOne
    head_channels: HeadWidth
    head_depth: Count


class Loss(Node):
    """The losses and how the two tasks share them."""

    segmentation: Literal["cross_entropy", "dice", "focal", "ce_dice"]
    class_weights: Literal["none", "balanced"]
    label_smoothing: BelowOne
    focal_gamma: NonNegative
    boxes: Literal["smooth_l1", "giou"]
    balance: Literal["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad"]
    segmentation_weight: NonNegative
    detection_weight: NonNegative


class MultitaskModule(Module):
    """The LightningModule of this task."""

    target: Literal["multitask.module.MultitaskModule"] = Field(alias="_target_")


class MultitaskTask(Task):
    """``task`` of conf/task/multitask.yaml."""

    module: MultitaskModule


class MultitaskConfig(RunConfig):
    """The whole config of a multi-task run."""

    METRICS: ClassVar = {
        "val/loss": "min",
        "val/mIoU": "max",
        "val/pixel_acc": "max",
        "val/mAP": "max",
        "val/mAP50": "max",
    }

    task: MultitaskTask
    data: Data
    model: Model
    loss: Loss

    def conflicts(self) -> Iterator[Problem]:
        """Also: a network without heads, metrics of a head that is not there, absent data."""
        yield from super().conflicts()
        data = self.data
        if (
            isinstance(data, Voc2012Data)
            and not data.download
            and not Path(data.root).expanduser().is_dir()
        ):
            reason = "no such folder; data.download=true fetches VOC 2012 into it (2 GB)"
            yield Problem(f"data.root={data.root}", reason)
        absent = [head for head in HEAD_METRICS if getattr(self.model, head) == "none"]
        if len(absent) == len(HEAD_METRICS):
            names = " ".join(f"model.{head}=none" for head in absent)
            yield Problem(names, "nothing is left to train; choose at least one head")
            return
        watched = {"objective.metric": self.objective.metric}
        if isinstance(self.scheduler, Plateau) and self.scheduler.monitor is not None:
            watched["scheduler.monitor"] = self.scheduler.monitor
        gone = {metric: head for head in absent for metric in HEAD_METRICS[head]}
        left = ", ".join(metric for metric in self.METRICS if metric not in gone)
        for key, metric in watched.items():
            if metric in gone:
                reason = f"not there with model.{gone[metric]}=none; one of {left}"
                yield Problem(f"{key}={metric}", reason)
