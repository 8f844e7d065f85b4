"""Building blocks of the schemas: checked types of config keys, in words that a person understands.

Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    ValidationError,
    WrapValidator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from phasewise.config.backbone_names import is_backbone, smp_names
from phasewise.config.help import choice_and_task, did_you_mean
from phasewise.errors import Problem
from phasewise.project import CONF, JOURNAL
from phasewise.records.checkpoints import FOLDER, checkpoint_file, cut_off, why_removed

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def message(text: str) -> WrapValidator:
    """Whatever is wrong with a value of this type, say ``text``."""

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise wrong(text) from None

    return WrapValidator(validate)


def wrong(text: str, key: str = "") -> PydanticCustomError:
    """An error of a validator, about ``key`` below the field."""
    return PydanticCustomError("message", "{text}", {"text": text, "key": key})


def several(problems: Sequence[Problem]) -> PydanticCustomError:
    """An error of a validator that has found more than pydantic would tell."""
    return PydanticCustomError("problems", "problems", {"problems": problems})


def ascending(values: list[int]) -> list[int]:
    """Strictly ascending, at least one."""
    if not values or any(b <= a for a, b in pairwise(values)):
        raise ValueError
    return values


def batch_limit(value: Any) -> int | float:
    """Lightning's ``limit_*_batches``: a number of batches (int) or a fraction (float)."""
    whole = type(value) is int and value >= 1
    if not whole and not (type(value) is float and 0 < value <= 1):
        raise wrong("must be a whole number >= 1 or a fraction in (0, 1], e.g. 10 or 0.5")
    assert isinstance(value, int | float)
    return value


def backbone(name: str) -> str:
    """A name that SMP or timm knows."""
    if not is_backbone(name):
        near = did_you_mean(name, smp_names())
        raise wrong(f"neither an SMP encoder nor a timm architecture{near}")
    return name


def weights(value: Any) -> bool | str:
    """``model.pretrained``: a switch, an existing file, or a folder of files."""
    if isinstance(value, bool) or (value and isinstance(value, str) and Path(value).exists()):
        return value
    raise wrong("must be true, false or an existing weights file or folder of them")


def folder(value: str) -> str:
    """An existing folder: a data set of one's own has no place by default."""
    if not Path(value).expanduser().is_dir():
        raise wrong("no such folder")
    return value


def checkpoint(value: str | None) -> str | None:
    """A checkpoint, or the directory of a run that has left one."""
    if value is not None and (reason := _no_checkpoint(Path(value).expanduser())) is not None:
        raise wrong(reason)
    return value


def _no_checkpoint(place: Path) -> str | None:
    """Why nothing can be read there."""
    file = checkpoint_file(place)
    if file.is_file():
        return cut_off(file)
    run = place.parent.parent if place.parent.name == FOLDER else place
    if (gone := why_removed(run)) is not None:
        return f"its weights were {gone}"
    if (place / JOURNAL).is_file():
        return f"the directory of a study or sweep: name a run in it, {place}/PHASE/RUN"
    return "neither a checkpoint nor the directory of a run with checkpoints/best.ckpt"


def pattern(value: str) -> str:
    """A regular expression, or a word, which is one too."""
    try:
        re.compile(value)
    except re.error as error:
        raise wrong(f"no regular expression: {error}") from None
    return value


Flag = Annotated[bool, message("must be true or false")]
Text = Annotated[str, Field(min_length=1), message("must be a text")]


def _several(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if not (text.startswith("[") and text.endswith("]")) or Path(text).exists():
        return [text]
    parts, found = text[1:-1].split(","), []
    while parts:
        names = [",".join(parts[:end]).strip() for end in range(len(parts), 0, -1)]
        name = next((name for name in names if name and Path(name).exists()), names[-1])
        found.append(name)
        del parts[: name.count(",") + 1]
    return found


Paths = Annotated[list[Text], Field(min_length=1), BeforeValidator(_several)]
"""A path, or ``[a,b,c]`` where that is no file's name; those of trials have commas themselves."""


def _dotted(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
        for name in names
    ):
        return names
    raise wrong("must be names of packages, modules or classes, e.g. [mine,theirs.heads.Head]")


Names = Annotated[list[str], BeforeValidator(_dotted)]
"""Packages, modules and classes by their dotted names."""

Whole = Annotated[int, Field(ge=0), message("must be a whole number >= 0")]
Count = Annotated[int, Field(ge=1), message("must be a whole number >= 1")]
CountOrNull = Annotated[int | None, Field(ge=1), message("must be a whole number >= 1 or null")]
Seed = Annotated[int, Field(ge=0, lt=2**32), message("must be a whole number in [0, 2**32)")]
Pixels = Annotated[
    int, Field(ge=32, multiple_of=32), message("must be a whole number, a multiple of 32")
]
NonNegative = Annotated[float, Field(ge=0), message("must be a number >= 0")]
Positive = Annotated[float, Field(gt=0), message("must be a number > 0")]
PositiveOrNull = Annotated[float | None, Field(gt=0), message("must be a number > 0 or null")]
Fraction = Annotated[float, Field(gt=0, lt=1), message("must be a number in (0, 1)")]
BelowOne = Annotated[float, Field(ge=0, lt=1), message("must be a number in [0, 1)")]
Batches = Annotated[int | float, BeforeValidator(batch_limit)]
BackboneName = Annotated[Text, AfterValidator(backbone)]
Pretrained = Annotated[bool | str, BeforeValidator(weights)]
# What `phasewise.networks.layers` can do, which imports torch.
Activation = Literal["native", "relu", "leaky_relu", "gelu", "silu", "elu", "mish"]
InitScheme = Literal["native", "kaiming", "xavier", "normal", "orthogonal"]
Norm = Literal["batch", "group"]
Folder = Annotated[Text, AfterValidator(folder)]
GroupBy = Annotated[Text, AfterValidator(pattern)]
"""Which samples belong together: ``auto``, ``none``, ``near``, a column, a regular expression."""
CheckpointOrNull = Annotated[
    str | None, message("must be a path or null"), AfterValidator(checkpoint)
]
Milestones = Annotated[
    list[Count],
    AfterValidator(ascending),
    message("must be a list of ascending whole numbers >= 1, e.g. [10,15]"),
]


class Node(BaseModel):
    """A section of the config: nothing is converted, nothing unknown is accepted."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ByTarget:
    """Of the data sets in a union, chooses the one whose ``_target_`` is given.

    ``VocBoxesData`` is ``data=voc_boxes``: what is said of an unknown one names them so. Data with
    a reader of somebody's own are no choice that comes with the project.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        kinds = {
            get_args(one.model_fields["target"].annotation)[0]: one for one in get_args(source)
        }
        there = [one for one in kinds.values() if "reader" not in one.model_fields]
        names = [_CAPITAL.sub("_", one.__name__.removesuffix("Data")) for one in there]

        def tag(node: Any) -> str | None:
            name = node.get("_target_") if isinstance(node, dict) else None
            return name if name in kinds else None

        text = f"this task reads only data={', '.join(names).lower()}"
        members: Any = reduce(or_, (Annotated[one, Tag(name)] for name, one in kinds.items()))
        return handler.generate_schema(Annotated[members, chosen_by(tag, "_target_", text)])


def chosen_by(tag: Callable[[Any], str | None], key: str, text: str) -> Discriminator:
    """Chooses the class of a section by its ``tag``; says ``text`` about ``key`` without one."""
    return Discriminator(tag, "message", "{text}", {"text": text, "key": key})


def by_choice(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Says of another task's data set what a person typed, ``data=NAME``, and not its class."""
    try:
        return handler(value)
    except ValidationError as error:
        context = error.errors(include_url=False)[0].get("ctx", {})
        wrong_class = context.get("key") == "_target_" and isinstance(value, dict)
        owner = choice_and_task(str(value.get("_target_")), CONF) if wrong_class else None
        if owner is None:
            raise
        choice, task = owner
        problem = Problem(f"data={choice}", f"belongs to task={task}; {context['text']}")
        raise several([problem]) from None
