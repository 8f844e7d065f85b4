"""Types, bounds and allowed values of optimizers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, Tag, model_validator

from phasewise.config.fields import (
    BelowOne,
    Count,
    Flag,
    Fraction,
    Milestones,
    Node,
    NonNegative,
    Positive,
    Text,
    Whole,
    chosen_by,
    wrong,
)
from phasewise.config.signatures import OPTIMIZERS, TARGET, TargetError
from phasewise.config.targets import ForeignPart, accepted

Mode = Literal["max", "min"]


class OptimizerConfig(Node):
    """What every optimizer has."""

    lr: Positive
    weight_decay: NonNegative


class Adam(OptimizerConfig):
    """``conf/optimizer/adam.yaml``."""

    target: Literal["torch.optim.Adam"] = Field(alias="_target_")


class Amsgrad(Adam):
    """``conf/optimizer/amsgrad.yaml``."""

    amsgrad: Literal[True]


class AdamW(OptimizerConfig):
    """``conf/optimizer/adamw.yaml``."""

    target: Literal["torch.optim.AdamW"] = Field(alias="_target_")


class SGD(OptimizerConfig):
    """``conf/optimizer/sgd.yaml``."""

    target: Literal["torch.optim.SGD"] = Field(alias="_target_")
    momentum: BelowOne
    nesterov: Flag


class RMSprop(OptimizerConfig):
    """``conf/optimizer/rmsprop.yaml``."""

    target: Literal["torch.optim.RMSprop"] = Field(alias="_target_")
    alpha: BelowOne
    momentum: BelowOne


class ForeignOptimizer(ForeignPart):
    """Any other class, with the arguments that it takes besides the parameters."""

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters come first."""
        return {"positional": 1}


def optimizer_tag(node: Any) -> str | None:
    """Adam and AMSGrad are one class of torch; the key ``amsgrad`` tells them apart."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        return None
    if node["_target_"] not in OPTIMIZERS:
        return "foreign"
    name = node["_target_"].removeprefix("torch.optim.")
    return "Amsgrad" if name == "Adam" and "amsgrad" in node else name


Optimizer = Annotated[
    Annotated[Adam, Tag("Adam")]
    | Annotated[Amsgrad, Tag("Amsgrad")]
    | Annotated[AdamW, Tag("AdamW")]
    | Annotated[SGD, Tag("SGD")]
    | Annotated[RMSprop, Tag("RMSprop")]
    | Annotated[ForeignOptimizer, Tag("foreign")],
    chosen_by(optimizer_tag, TARGET, "choose optimizer=adam, amsgrad, adamw, sgd or rmsprop"),
]


class Constant(Node):
    """``conf/scheduler/none.yaml``"""

    name: Literal["none"]
    warmup_epochs: Whole


class Plateau(Node):
    """``conf/scheduler/plateau.yaml``"""

    name: Literal["plateau"]
    warmup_epochs: Whole
    monitor: Text | None
    mode: Mode | None
    factor: Fraction
    patience: Whole
    min_lr: NonNegative


class Cosine(Node):
    """``conf/scheduler/cosine.yaml``"""

    name: Literal["cosine"]
    warmup_epochs: Whole
    min_lr: NonNegative


class Multistep(Node):
    """``conf/scheduler/multistep.yaml``"""

    name: Literal["multistep"]
    warmup_epochs: Whole
    milestones: Milestones
    gamma: Positive


class OneCycle(Node):
    """``conf/scheduler/onecycle.yaml``"""

    name: Literal["onecycle"]
    warmup_fraction: Fraction


OURS: dict[str, type[Node]] = {
    "none": Constant,
    "plateau": Plateau,
    "cosine": Cosine,
    "multistep": Multistep,
    "onecycle": OneCycle,
}


class _Stepped(BaseModel):
    """When Lightning steps a schedule, and what it shows it."""

    interval: Literal["epoch", "step"] = "epoch"
    frequency: Count = 1
    monitor: Text | None = None


class ForeignScheduler(ForeignPart):
    """Any class that takes an optimizer first, on top of whichever file was chosen.

    Beside its arguments stand what Lightning wants to know: ``interval`` (``epoch`` or ``step``),
    ``frequency`` and ``monitor``.
    """

    LIGHTNINGS: ClassVar = ("interval", "frequency", "monitor")

    @property
    def monitor(self) -> str | None:
        """The metric that it goes by, if one is named."""
        found: str | None = (self.model_extra or {}).get("monitor")
        return found

    @model_validator(mode="before")
    @classmethod
    def steps_as_lightning_knows(cls, node: Any) -> Any:
        """The values of those keys."""
        if isinstance(node, dict):
            when = _Stepped.model_validate({k: node[k] for k in cls.LIGHTNINGS if k in node})
            if str(node.get(TARGET)).endswith(".ReduceLROnPlateau"):
                for key, only in (("interval", "epoch"), ("frequency", 1)):
                    if getattr(when, key) != only:
                        reason = f"must be {only}: the metric is known when an epoch has ended"
                        raise wrong(reason, key=key)
        return node

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer comes first."""
        return {"positional": 1, "beside": cls.LIGHTNINGS}

    @classmethod
    def arguments(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """Without the keys of the schedule of ours whose place it takes."""
        return foreign_schedule(node)


def foreign_schedule(node: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler with a `_target_` without what the file below it says of a schedule of ours.

    A key of that file which the class takes as well keeps its value.
    """
    ours = OURS.get(str(node.get("name")))
    if ours is None:
        return dict(node)
    kept = {TARGET, *ForeignScheduler.LIGHTNINGS}
    with suppress(TargetError):  # is told where the class is checked
        kept |= accepted(str(node[TARGET]), ours.model_fields)
    return {key: it for key, it in node.items() if key in kept or key not in ours.model_fields}


SCHEDULERS = tuple(OURS)


def scheduler_tag(node: Any) -> str | None:
    """A class of one's own, or the name of one of ours."""
    if not isinstance(node, dict):
        return None
    if TARGET in node:
        return "foreign"
    return str(node.get("name")) if node.get("name") in OURS else None


Scheduler = Annotated[
    Annotated[Constant, Tag("none")]
    | Annotated[Plateau, Tag("plateau")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Multistep, Tag("multistep")]
    | Annotated[OneCycle, Tag("onecycle")]
    | Annotated[ForeignScheduler, Tag("foreign")],
    chosen_by(scheduler_tag, "name", f"not one of {', '.join(SCHEDULERS)}"),
]
