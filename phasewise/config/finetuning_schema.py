"""Types and values of ``finetuning``: how weights that came with a run are treated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from phasewise.config.fields import Fraction, Node, NonNegative, Positive, Whole, message, wrong
from phasewise.config.signatures import is_foreign
from phasewise.config.targets import accepted
from phasewise.errors import Problem
from phasewise.text import format_value

DEFAULTS: dict[str, Any] = {
    "freeze_epochs": 0,
    "backbone_lr_factor": 1.0,
    "layer_decay": 1.0,
    "l2_sp": 0.0,
    "ema": None,
    "interpolate": None,
}
"""As in ``conf/config.yaml``: they leave a training as it is."""

OF_RATE = ("backbone_lr_factor", "layer_decay")
"""Keys that are shares of ``optimizer.lr``."""

OF_BACKBONE = ("freeze_epochs", *OF_RATE)
"""Keys that want a backbone."""

OF_START = ("l2_sp", "interpolate")
"""Keys that want weights to have come with the run."""

OF_AVERAGE = ("ema", "interpolate")
"""Keys that put other weights into the network for validation."""

AVERAGING = ("StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging")
"""Callbacks of Lightning that put weights of their own into the network."""

UNUSED = "ddp_find_unused_parameters_true"
"""The strategy that allows parameters without gradients."""


def _shares(value: Any) -> Any:
    """A share, several, or none."""
    several = value if isinstance(value, list) else [value]
    fine = all(type(it) in (int, float) and 0 <= it <= 1 for it in several)
    if value is None or (fine and several and len({*several}) == len(several)):
        return value
    raise wrong("must be a number in [0, 1], a list of different ones, e.g. [0.5,0.75,1], or null")


class Finetuning(Node):
    """The section of that name."""

    freeze_epochs: Whole
    backbone_lr_factor: Positive
    layer_decay: Annotated[float, Field(gt=0, le=1), message("must be a number in (0, 1]")]
    l2_sp: NonNegative
    ema: Annotated[Fraction | None, message("must be a number in (0, 1) or null")]
    interpolate: Annotated[Any, BeforeValidator(_shares)]

    @property
    def changed(self) -> dict[str, Any]:
        """The keys that are not at their defaults."""
        return {key: it for key, it in self.model_dump().items() if it != DEFAULTS[key]}

    @property
    def chooses(self) -> bool:
        """Whether validation chooses between several shares."""
        return isinstance(self.interpolate, list) and len(self.interpolate) > 1


def finetuning_conflicts(config: Any) -> Iterator[Problem]:
    """Values of ``finetuning`` that do not go with the rest of a config.

    Args:
        config: a `phasewise.config.schema.RunConfig`.
    """
    own: Finetuning = config.finetuning
    texts = {key: f"finetuning.{key}={format_value(it)}" for key, it in own.changed.items()}
    target = str(config.task.module.target)
    if is_foreign(target):
        if texts and not accepted(target, ("finetuning",)):
            reason = f"{target} takes no argument finetuning, which would bring it"
            yield from (Problem(text, reason) for text in texts.values())
    elif (reason := config.without_backbone()) is not None:
        yield from (Problem(texts[key], reason) for key in OF_BACKBONE if key in texts)
    came = getattr(getattr(config, "model", None), "pretrained", False) or config.init_from
    if not came:
        reason = "wants weights to start from: model.pretrained or init_from"
        yield from (Problem(texts[key], reason) for key in OF_START if key in texts)
    if own.chooses and getattr(getattr(config, "data", None), "refit", False):
        reason = "on samples that train, which share is best is chance: name one"
        yield Problem(texts["interpolate"], reason)
    for node in config.callbacks.values():
        if node.target.rpartition(".")[2] in AVERAGING:
            reason = f"does not go with {node.target}, which averages weights too"
            yield from (Problem(texts[key], reason) for key in OF_AVERAGE if key in texts)
    yield from _frozen_conflicts(own.freeze_epochs, config.trainer)
    yield from _rate_conflicts(own, texts, config.optimizer, config.scheduler)


def _frozen_conflicts(epochs: int, trainer: Any) -> Iterator[Problem]:
    if epochs and trainer.devices > 1 and trainer.strategy != UNUSED:
        reason = f"on several devices a frozen backbone wants trainer.strategy={UNUSED}"
        yield Problem(f"finetuning.freeze_epochs={epochs}", reason)
    if epochs >= trainer.max_epochs:
        reason = f"must be less than trainer.max_epochs={trainer.max_epochs}"
        yield Problem(f"finetuning.freeze_epochs={epochs}", reason)


def _rate_conflicts(
    own: Finetuning, texts: Mapping[str, str], optimizer: Any, scheduler: Any
) -> Iterator[Problem]:
    lr, floor = getattr(optimizer, "lr", None), getattr(scheduler, "min_lr", 0.0)
    if lr is None:
        reason = "is a share of optimizer.lr, which is not given"
        yield from (Problem(texts[key], reason) for key in OF_RATE if key in texts)
    elif lr * own.backbone_lr_factor <= floor < lr:
        slowest = f"{lr * own.backbone_lr_factor:g}"
        reason = f"must be below the backbone's learning rate, {slowest}"
        yield Problem(f"scheduler.min_lr={format_value(floor)}", reason)
