"""Types, bounds and allowed values of the localization pipeline's configuration; no torch here."""

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
    Positive,
    Pretrained,
    Seed,
    Text,
)
from phasewise.config.held_out import SplitConfig
from phasewise.config.schema import DataConfig, RunConfig, Task
from phasewise.config.targets import own_part
from phasewise.errors import Problem

RAW_HEADS = ("linear", "spatial")
"""Those whose last layer may give coordinates as they are."""

Pick = Literal["largest", "only"]


class AnimalsData(DataConfig):
    """``conf/data/animals.yaml``"""

    target: Literal["localization.data.AnimalsData"] = Field(alias="_target_")
    train_images: Count
    val_images: Count
    test_images: Count
    draw_seed: Seed


class VocBoxesData(SplitConfig):
    """``conf/data/voc_boxes.yaml``"""

    target: Literal["localization.data.VocBoxesData"] = Field(alias="_target_")
    root: Folder
    object: Pick
    coordinates: Literal["auto", "one_based", "zero_based"]
    size_tag: Literal["auto", "ignore"]


class CsvData(SplitConfig):
    """``conf/data/csv.yaml``"""

    target: Literal["localization.data.CsvData"] = Field(alias="_target_")
    root: Folder
    file: Text
    object: Pick


class CocoData(SplitConfig):
    """``conf/data/coco/localization.yaml``"""

    target: Literal["localization.data.CocoData"] = Field(alias="_target_")
    root: Folder
    annotations: Text
    object: Pick
    crowds: Literal["auto", "objects", "ignore"]


class YoloData(SplitConfig):
    """``conf/data/yolo/localization.yaml``"""

    target: Literal["localization.data.YoloData"] = Field(alias="_target_")
    root: Folder
    file: Text
    object: Pick


class PetsData(SplitConfig):
    """``conf/data/pets.yaml``"""

    target: Literal["localization.data.PetsData"] = Field(alias="_target_")
    root: Text
    download: Flag


class ReaderData(DataConfig):
    """A file of a user's own with ``_target_: localization.data.ReaderData``."""

    target: Literal["localization.data.ReaderData"] = Field(alias="_target_")
    root: Folder
    reader: Annotated[dict[str, Any], own_part(positional=1, of_data=True)]


Data = Annotated[
    AnimalsData | VocBoxesData | CsvData | CocoData | YoloData | PetsData | ReaderData, ByTarget()
]


class Model(Node):
    """The network."""

    backbone: BackboneName
    pretrained: Pretrained
    stride: Literal[8, 16, 32]
    head: Annotated[str | dict[str, Any], own_part("points", "spatial", "linear", positional=1)]
    hidden: Count
    box: Literal["bounded", "raw"]
    activation: Activation
    init_scheme: InitScheme
    norm: Norm
    dropout_rate: BelowOne
    drop_path_rate: BelowOne


class Loss(Node):
    """The loss and the weights of its terms."""

    name: Annotated[
        str | dict[str, Any],
        own_part(
            "smooth_l1",
            "l1",
            "mse",
            "giou",
            "ciou",
            "smooth_l1_giou",
            "l1_giou",
            "smooth_l1_ciou",
            "l1_ciou",
        ),
    ]
    box_weight: NonNegative
    iou_weight: NonNegative
    beta: Positive


class LocalizationConfig(RunConfig):
    """The whole config of a localization run."""

    METRICS: ClassVar = {
        "val/loss": "min",
        "val/IoU": "max",
        "val/acc50": "max",
        "val/acc75": "max",
    }
    FRACTIONS: ClassVar = METRICS.keys() - {"val/loss"}

    task: Task[Literal["localization.module.LocalizationModule"]]
    data: Data
    model: Model
    loss: Loss

    def conflicts(self) -> Iterator[Problem]:
        """Also: a loss without weight, a head that has no coordinates, absent data."""
        yield from super().conflicts()
        rate = self.model.drop_path_rate
        if rate and (reason := without_drop_path(self.model.backbone)):
            yield Problem(f"model.drop_path_rate={rate:g}", reason)
        data, loss = self.data, self.loss
        if loss.box_weight == loss.iou_weight == 0:
            yield Problem("loss.box_weight=0 loss.iou_weight=0", "nothing is left to learn from")
        if "cutmix" in augment_names(data.augment):
            yield Problem("data.augment: cutmix", NO_BOXES)
        if self.model.box == "raw" and self.model.head not in RAW_HEADS:
            reason = f"goes with model.head={' and '.join(RAW_HEADS)}: others make boxes their way"
            yield Problem("model.box=raw", reason)
        if (
            isinstance(data, PetsData)
            and not data.download
            and not Path(data.root).expanduser().is_dir()
        ):
            reason = "no such folder; data.download=true fetches Oxford-IIIT Pet into it (800 MB)"
            yield Problem(f"data.root={data.root}", reason)
