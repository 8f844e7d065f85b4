"""Types, bounds and allowed values of the re-identification pipeline's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from phasewise.config.augment import augment_names
from phasewise.config.fields import (
    Activation,
    BelowOne,
    ByTarget,
    Count,
    CountOrNull,
    Flag,
    Folder,
    Fraction,
    GroupBy,
    InitScheme,
    Node,
    NonNegative,
    Norm,
    Pretrained,
    Seed,
    Text,
    wrong,
)
from phasewise.config.held_out import FoldsConfig
from phasewise.config.help import did_you_mean
from phasewise.config.schema import RunConfig, Task
from phasewise.config.targets import own_part
from phasewise.errors import Problem
from phasewise.text import format_value
from reid.backbone_names import (
    NAMED,
    backbone_weight_names,
    is_backbone,
    without_drop_path,
)

HELD = ("cameras", "recordings")
"""Of ``data.validation``: what is held out besides identities."""


def backbone(name: str) -> str:
    """A name of ours, of timm or of torchvision."""
    if not is_backbone(name):
        near = did_you_mean(name, NAMED)
        raise wrong(f"not one of {', '.join(NAMED)}, nor of timm or torchvision{near}")
    return name


def margin(value: Any) -> Any:
    """``loss.margin``: soft or a distance."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "soft" or (number and 0 <= value < float("inf")):
        return value
    raise wrong("must be soft or a number >= 0")


class ReidData(FoldsConfig):
    """What all data sets have."""

    validation: Literal["identities", "cameras", "recordings", "none", "test"]
    validation_fraction: Fraction
    group_by: GroupBy | None
    sampler: Literal["random", "identity"]
    images_per_identity: Count

    def conflicts(self) -> Iterator[Problem]:
        """Also: what is held out of nothing, recordings that nothing tells."""
        yield from super().conflicts()
        held, recordings = self.validation in HELD, self.validation == "recordings"
        if self.folds is not None and not held and self.validation != "identities":
            reason = f"has nothing to deal with data.validation={self.validation}"
            yield Problem(f"data.folds={self.folds}", reason)
        if self.holdout is not None and not held:
            key = f"data.holdout={format_value(self.holdout)}"
            yield Problem(key, f"needs data.validation={' or '.join(HELD)}")
        if recordings and self.group_by is None:
            reason = "needs data.group_by=REGEX, which finds the recording in the name of an image"
            yield Problem("data.validation=recordings", reason)
        if self.group_by is not None and not recordings:
            key = f"data.group_by={self.group_by}"
            yield Problem(key, "needs data.validation=recordings: it says what one is")


class VehiclesData(ReidData):
    """``conf/data/vehicles.yaml``"""

    target: Literal["reid.data.VehiclesData"] = Field(alias="_target_")
    train_identities: Annotated[Count, Field(ge=2)]
    test_identities: Count
    cameras: Annotated[Count, Field(ge=2)]
    shots: Count
    draw_seed: Seed


class FilesData(ReidData):
    """What those that read files have."""

    root: Folder
    cameras: Literal["auto", "ignore"]


class VeriData(FilesData):
    """``conf/data/veri.yaml``"""

    target: Literal["reid.data.VeriData"] = Field(alias="_target_")


class MarketData(FilesData):
    """``conf/data/market.yaml``"""

    target: Literal["reid.data.MarketData"] = Field(alias="_target_")


class FolderData(FilesData):
    """``conf/data/folder.yaml``"""

    target: Literal["reid.data.FolderData"] = Field(alias="_target_")


class ReaderData(ReidData):
    """A file of a user's own with ``_target_: reid.data.ReaderData``."""

    target: Literal["reid.data.ReaderData"] = Field(alias="_target_")
    root: Folder
    reader: Annotated[dict[str, Any], own_part(positional=1, of_data=True)]


Data = Annotated[VehiclesData | VeriData | MarketData | FolderData | ReaderData, ByTarget()]


class Model(Node):
    """The network."""

    backbone: Annotated[Text, AfterValidator(backbone)]
    pretrained: Pretrained
    last_stride: Literal[1, 2] | None
    embedding_dim: CountOrNull
    neck: Annotated[str | dict[str, Any], own_part("none", "bnneck", positional=1)]
    pooling: Annotated[str | dict[str, Any], own_part("avg", "max", "gem", "native", positional=1)]
    activation: Activation
    init_scheme: InitScheme
    norm: Norm
    dropout_rate: BelowOne
    drop_path_rate: BelowOne


class Loss(Node):
    """The two losses and their weights."""

    metric: Annotated[
        str | dict[str, Any],
        own_part(
            "triplet",
            "circle",
            "arcface",
            "cosface",
            "multi_similarity",
            "contrastive",
            "supcon",
            "ntxent",
            "none",
            supplied=("num_classes", "embedding_dim"),
        ),
    ]
    id_weight: NonNegative
    metric_weight: NonNegative
    label_smoothing: BelowOne
    margin: Annotated[str | int | float, BeforeValidator(margin)]
    mining: Literal["batch_hard", "all", "semi_hard"]


class Evaluation(Node):
    """How features are compared and ranked."""

    distance: Literal["cosine", "euclidean"]
    average_precision: Literal["hits", "trapezoid"]
    max_rank: Annotated[Count, Field(ge=10)]
    flip: Flag
    rerank: Flag


class ReidConfig(RunConfig):
    """The whole config of a re-identification run."""

    METRICS: ClassVar = {
        "val/mAP": "max",
        "val/mINP": "max",
        "val/rank1": "max",
        "val/rank5": "max",
        "val/rank10": "max",
    }
    FRACTIONS: ClassVar = METRICS.keys()

    task: Task[Literal["reid.module.ReidModule"]]
    data: Data
    model: Model
    loss: Loss
    evaluation: Evaluation

    @classmethod
    def weight_names(cls, model: Mapping[str, Any]) -> list[str]:
        """Of a backbone with a name here, those of the network that it is made from too."""
        return backbone_weight_names(model["backbone"])

    def conflicts(self) -> Iterator[Problem]:
        """Also: batches that do not divide, losses that have nothing to do."""
        yield from super().conflicts()
        rate = self.model.drop_path_rate
        if rate and (reason := without_drop_path(self.model.backbone)):
            yield Problem(f"model.drop_path_rate={rate:g}", reason)
        data, loss = self.data, self.loss
        each = data.images_per_identity
        if data.sampler == "identity" and data.batch_size % each:
            reason = f"must be a multiple of data.images_per_identity={each}"
            yield Problem(f"data.batch_size={data.batch_size}", reason)
        elif data.sampler == "identity" and data.batch_size == each:
            reason = "must be at least twice data.images_per_identity: one identity alone has "
            yield Problem(f"data.batch_size={data.batch_size}", f"{reason}nothing to compare with")
        if data.refit and data.validation == "test":
            reason = "has nothing to add with data.validation=test: every training identity trains"
            yield Problem("data.refit=true", reason)
        if data.validation == "none" and self.objective.keep == "best":
            reason = "needs objective.keep=last: on identities that train, the best epoch is chance"
            yield Problem("data.validation=none", reason)
        if data.validation == "none" and self.finetuning.chooses:
            reason = "with data.validation=none nothing is left to choose by: name one share"
            yield Problem("finetuning.interpolate", reason)
        if not loss.id_weight and (loss.metric == "none" or not loss.metric_weight):
            key = f"loss.id_weight=0 loss.metric={loss.metric}"
            yield Problem(key, "nothing is left to learn from")
        if loss.metric == "triplet" and loss.mining == "semi_hard" and loss.margin == "soft":
            yield Problem("loss.mining=semi_hard", "needs loss.margin as a number, e.g. 0.3")
        names = augment_names(data.augment)
        if "mixup" in names:
            yield Problem("data.augment: mixup", "a blend of two identities has no identity")
        if "cutmix" in names:
            reason = "an image with a piece of another identity has no identity"
            yield Problem("data.augment: cutmix", reason)
