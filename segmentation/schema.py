"""Types, bounds and allowed values of the segmentation pipeline's configuration; no torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from phasewise.config.backbone_names import without_drop_path
from phasewise.config.fields import (
    Activation,
    BackboneName,
    BelowOne,
    ByTarget,
    Count,
    CountOrNull,
    Flag,
    Folder,
    InitScheme,
    Node,
    NonNegative,
    Norm,
    Positive,
    Pretrained,
    Seed,
    Whole,
    message,
    wrong,
)
from phasewise.config.held_out import SplitConfig
from phasewise.config.schema import DataConfig, RunConfig, Task
from phasewise.config.targets import own_part
from phasewise.errors import Problem
from phasewise.text import format_value
from segmentation.architectures import (
    FOURS,
    OF_SMP,
    OURS,
    RESIDUAL,
    depth_of,
    depths,
    least_size,
    step_of,
)

NOT_OF_OWN: dict[str, Any] = {
    "backbone": None,
    "pretrained": False,
    "width": 16,
    "depth": None,
    "norm_momentum": 0.1,
    "dropout_rate": 0.0,
    "dropout_type": "element",
    "drop_path_rate": 0.0,
    "head_norm": False,
}
"""Keys that an architecture of one's own has arguments of its own for, with their defaults."""

Share = Annotated[float, Field(ge=0, le=1), message("must be a number in [0, 1]")]


def schedule(value: Any) -> Any:
    """``data.image_size_schedule``: null, or pairs of an epoch and one or several sizes."""
    if value is None:
        return None
    try:
        epochs = [epoch for epoch, _ in value]
        sizes = [s for _, found in value for s in (found if isinstance(found, list) else [found])]
        whole = all(type(number) is int for number in (*epochs, *sizes))
        right = whole and epochs == sorted(set(epochs)) and epochs[0] == 1 and bool(sizes)
        if right and all(size >= 32 and size % 32 == 0 for size in sizes):
            return value
    except (TypeError, ValueError, IndexError):
        pass
    raise wrong(
        "must be null or pairs [epoch, size], the first of epoch 1, later ones ascending, sizes "
        "(or lists of them) multiples of 32; e.g. [[1,128],[21,256]]"
    )


def threshold(value: Any) -> Any:
    """``evaluation.threshold``: auto or a probability."""
    if value == "auto" or (type(value) is float and 0 < value < 1):
        return value
    raise wrong("must be auto or a number in (0, 1)")


def page(value: Any) -> Any:
    """``data.page``: null, a number or a projection."""
    if value in (None, "max", "mean") or (type(value) is int and value >= 0):
        return value
    raise wrong("must be null, a page counted from 0, max or mean")


def channels(value: Any) -> Any:
    """``data.channels``: null, up to three numbers or a projection."""
    if value in (None, "max", "mean"):
        return value
    numbers = isinstance(value, list) and all(type(it) is int and it >= 0 for it in value)
    if numbers and 1 <= len(value) <= 3:
        return value
    raise wrong("must be null, one to three channels counted from 0 as [0] or [2,1,0], max or mean")


def intensity(value: Any) -> Any:
    """``data.intensity``: auto, or two numbers."""
    if value == "auto":
        return value
    numbers = isinstance(value, list) and all(type(it) in (int, float) for it in value)
    if numbers and len(value) == 2 and value[0] < value[1]:
        return value
    raise wrong("must be auto or [BLACK,WHITE], the first below the second")


def foreground(value: Any) -> Any:
    """``data.foreground``: null, a word, a value, several, or colours."""
    if value in (None, "threshold", "nonzero") or (type(value) is int and 0 <= value <= 65535):
        return value
    if isinstance(value, list) and value:
        if all(type(it) is int and 0 <= it <= 65535 for it in value):
            return value
        if all(_is_colour(it) for it in value):
            return value
    raise wrong(
        "must be null, a mask value as 255, several as [1,2], colours as [[255,0,0]], threshold or "
        "nonzero"
    )


def _is_colour(value: Any) -> bool:
    bytes_ = isinstance(value, list) and all(type(it) is int and 0 <= it <= 255 for it in value)
    return bytes_ and len(value) == 3


class SegmentationData(DataConfig):
    """What both data sets have."""

    image_size_schedule: Annotated[Any, AfterValidator(schedule)]
    min_area: Whole
    min_distance: Count


class BeadsData(SegmentationData):
    """``conf/data/beads.yaml``"""

    target: Literal["segmentation.data.BeadsData"] = Field(alias="_target_")
    train_images: Count
    val_images: Count
    test_images: Count
    beads: Annotated[int, Field(ge=1, le=300), message("must be a whole number, 1 to 300")]
    draw_seed: Seed


class MaskData(SegmentationData):
    """What those that read files have."""

    root: Folder
    mask_values: Literal["auto", "binary", "instances"]
    foreground: Annotated[Any, AfterValidator(foreground)]
    page: Annotated[int | str | None, BeforeValidator(page)]
    channels: Annotated[Any, AfterValidator(channels)]
    intensity: Annotated[Any, AfterValidator(intensity)]
    tile_size: CountOrNull
    tile_overlap: BelowOne


class ImageMaskData(MaskData, SplitConfig):
    """``conf/data/image_mask.yaml``"""

    target: Literal["segmentation.data.ImageMaskData"] = Field(alias="_target_")


class ReaderData(MaskData):
    """A file of a user's own with ``_target_: segmentation.data.ReaderData``."""

    target: Literal["segmentation.data.ReaderData"] = Field(alias="_target_")
    reader: Annotated[dict[str, Any], own_part(positional=1, of_data=True)]


Data = Annotated[BeadsData | ImageMaskData | ReaderData, ByTarget()]


class Model(Node):
    """The network."""

    architecture: Annotated[str | dict[str, Any], own_part(*OURS, *OF_SMP)]
    backbone: BackboneName | None
    pretrained: Pretrained
    in_channels: Literal[1, 3]
    width: Count
    depth: CountOrNull
    activation: Activation
    init_scheme: InitScheme
    norm: Norm
    norm_momentum: Annotated[float, Field(gt=0, le=1), message("must be a number in (0, 1]")]
    dropout_rate: BelowOne
    drop_path_rate: BelowOne
    dropout_type: Literal["element", "channel", "block", "depth"]
    head_norm: Flag


class Loss(Node):
    """The loss and the weights of its terms."""

    name: Annotated[
        str | dict[str, Any],
        own_part("dice", "focal", "combined", "bce", "dice_bce", "tversky"),
    ]
    dice_weight: Share
    schedule_epochs: Whole
    pos_alpha: Share
    gamma: NonNegative
    fp_weight: NonNegative
    fn_weight: NonNegative
    smooth: Positive
    reduce: Literal["batch", "image"]


class Evaluation(Node):
    """How predictions are judged."""

    threshold: Annotated[str | float, BeforeValidator(threshold)]
    objects: Flag


OBJECT_METRICS = {"val/object_f1": "max", "val/count_error": "min"}


class SegmentationConfig(RunConfig):
    """The whole config of a segmentation run."""

    METRICS: ClassVar = {
        "val/loss": "min",
        "val/jaccard": "max",
        "val/dice": "max",
        "val/image_dice": "max",
        "val/soft_jaccard": "max",
        "val/precision": "max",
        "val/recall": "max",
        **OBJECT_METRICS,
    }
    FRACTIONS: ClassVar = METRICS.keys() - {"val/loss", "val/count_error"}

    task: Task[Literal["segmentation.module.SegmentationModule"]]
    data: Data
    model: Model
    loss: Loss
    evaluation: Evaluation

    def conflicts(self) -> Iterator[Problem]:
        """Also: settings of an architecture that another one does not have."""
        yield from super().conflicts()
        yield from self._architecture_conflicts()
        yield from self._size_conflicts()
        yield from self._mask_conflicts()
        if self.loss.name == "tversky" and self.loss.fp_weight == self.loss.fn_weight == 0:
            yield Problem("loss.fp_weight=0 loss.fn_weight=0", "one of them must be > 0")
        if not self.evaluation.objects:
            for key, metric in self.watched().items():
                if metric in OBJECT_METRICS:
                    yield Problem(f"{key}={metric}", "not there with evaluation.objects=false")

    def _mask_conflicts(self) -> Iterator[Problem]:
        said = getattr(self.data, "foreground", None)
        kind = getattr(self.data, "mask_values", "auto")
        if said is not None and kind != "auto":
            reason = f"data.mask_values={kind} says it already"
            yield Problem(f"data.foreground={format_value(said)}", reason)

    @classmethod
    def weight_names(cls, model: Mapping[str, Any]) -> list[str]:
        """Of SMP's architectures, whose backbone is ResNet-18 where none is named."""
        return [model.get("backbone") or "resnet18"]

    def without_backbone(self) -> str | None:
        """Of the architectures of ours, and of one's own."""
        name = self.model.architecture
        if isinstance(name, dict):
            return "an architecture of one's own has no backbone that is known"
        return f"model.architecture={name} has no backbone" if name in OURS else None

    def _architecture_conflicts(self) -> Iterator[Problem]:
        model = self.model
        if isinstance(model.architecture, dict):
            for key, default in NOT_OF_OWN.items():
                if (value := getattr(model, key)) != default:
                    reason = "an architecture of one's own has its own arguments"
                    yield Problem(f"model.{key}={format_value(value)}", reason)
            return
        ours = model.architecture in OURS
        name = f"model.architecture={model.architecture}"
        if ours and model.backbone is not None:
            yield Problem(f"model.backbone={model.backbone}", f"{name} is built without one")
        if ours and model.pretrained is not False:
            reason = f"there are no weights for {name}; SMP's architectures take a backbone's"
            yield Problem(f"model.pretrained={model.pretrained}", reason)
        if not ours and model.pretrained is not False and model.in_channels == 1:
            reason = "pretrained weights want RGB; of grey images all three channels are equal"
            yield Problem("model.in_channels=1", reason)
        if model.drop_path_rate:
            reason = f"{name} has no backbone; model.dropout_type=depth is for residual ones"
            if not ours:
                reason = without_drop_path(model.backbone or "resnet18")
            if reason:
                yield Problem(f"model.drop_path_rate={model.drop_path_rate:g}", reason)
        allowed = depths(model.architecture)
        if model.depth is not None and model.depth not in allowed:
            reason = f"{name} takes {allowed[0]} to {allowed[-1]}"
            yield Problem(f"model.depth={model.depth}", reason)
        if model.architecture in FOURS and model.width % 4:
            yield Problem(f"model.width={model.width}", f"{name} wants a multiple of 4")
        if model.dropout_type == "depth" and model.architecture not in RESIDUAL:
            reason = f"only {' and '.join(RESIDUAL)} have residual branches"
            yield Problem("model.dropout_type=depth", reason)

    def _size_conflicts(self) -> Iterator[Problem]:
        model, data = self.model, self.data
        step, least, depth = 1, 1, model.depth  # one of somebody's own is tried when it is built
        if isinstance(model.architecture, str):
            depth = depth_of(model.architecture, data.image_size, model.depth)
            step, least = (rule(model.architecture, depth) for rule in (step_of, least_size))
        if data.image_size % step or data.image_size < least:
            reason = f"model.depth={depth} wants a multiple of {step}{_from(least, step)}"
            yield Problem(f"data.image_size={data.image_size}", reason)
        for epoch, sizes in data.image_size_schedule or ():
            each = sizes if isinstance(sizes, list) else [sizes]
            if any(size % step or size < least for size in each):
                reason = f"model.depth={depth} wants multiples of {step}{_from(least, step)}"
                yield Problem(f"data.image_size_schedule {sizes} from epoch {epoch}", reason)
            if epoch > self.trainer.max_epochs:
                reason = f"never reached with trainer.max_epochs={self.trainer.max_epochs}"
                yield Problem(f"data.image_size_schedule from epoch {epoch}", reason)


def _from(least: int, step: int) -> str:
    return f", {least} or more" if least > step else ""
