"""Types, bounds and allowed values of optimizers and learning-rate schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from phasewise.config.fields import (
    BelowOne,
    Flag,
    Fraction,
    Milestones,
    Node,
    NonNegative,
    Positive,
    Text,
    Whole,
    tagged,
)

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


def optimizer_tag(node: Any) -> str | None:
    """Adam and AMSGrad are one class of torch; the key ``amsgrad`` tells them apart."""
    if not isinstance(node, dict):
        return None
    name = str(node.get("_target_")).removeprefix("torch.optim.")
    return "Amsgrad" if name == "Adam" and "amsgrad" in node else name


Optimizer = Annotated[
    Annotated[Adam, Tag("Adam")]
    | Annotated[Amsgrad, Tag("Amsgrad")]
    | Annotated[AdamW, Tag("AdamW")]
    | Annotated[SGD, Tag("SGD")]
    | Annotated[RMSprop, Tag("RMSprop")],
    Discriminator(
        optimizer_tag,
        "told",
        "{text}",
        {"text": "choose optimizer=adam, amsgrad, adamw, sgd or rmsprop", "key": "_target_"},
    ),
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


SCHEDULERS = ("none", "plateau", "cosine", "multistep", "onecycle")
Scheduler = Annotated[
    Annotated[Constant, Tag("none")]
    | Annotated[Plateau, Tag("plateau")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Multistep, Tag("multistep")]
    | Annotated[OneCycle, Tag("onecycle")],
    tagged({name: name for name in SCHEDULERS}, "name", f"not one of {', '.join(SCHEDULERS)}"),
]
