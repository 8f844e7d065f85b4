"""Types, bounds and allowed values of the configuration that all tasks share.

What a key means stands beside it in ``conf/``; here stands what it may be. No field has a
default: the YAML files must give every key, and no other key is accepted, so that files and
schema cannot drift apart. Imports no torch: a wrong value is refused before anything slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from phasewise.config.arguments import available_arguments
from phasewise.config.augment import check_augment
from phasewise.config.fields import (
    CheckpointOrNull,
    Count,
    CountOrNull,
    Flag,
    Node,
    NonNegative,
    Pixels,
    Seed,
    Text,
    Whole,
    by_choice,
    message,
    several,
    wrong,
)
from phasewise.config.finetuning_schema import Finetuning, finetuning_conflicts
from phasewise.config.help import (
    MISSING,
    did_you_mean,
    flatten,
    must_be_given,
    not_one_of,
    problems_of,
    settings_error,
)
from phasewise.config.optim_schema import (
    SGD,
    ForeignScheduler,
    Mode,
    Optimizer,
    Plateau,
    Scheduler,
)
from phasewise.config.parts_schema import (
    Callbacks,
    ForeignModule,
    Loggers,
    Module,
    Target,
    comes_from_elsewhere,
    named_parts,
)
from phasewise.config.signatures import TARGET, TargetError, find_object, signature_of
from phasewise.config.targets import CONTEXT, ForeignPart
from phasewise.config.trainer_schema import Trainer
from phasewise.config.weight_files import weights_file
from phasewise.errors import Problem, UserError
from phasewise.project import project_class
from phasewise.records.checkpoints import cut_off
from phasewise.text import format_value

NOT_OF_A_RUN = ("hydra", "study", "budget", "init_study")
"""Sections and keys that concern Hydra, or the sweep or study around a run."""


class DataConfig(Node):
    """What every data set has; a task's schema adds a class for each of its data choices."""

    image_size: Pixels
    resize: Literal["stretch", "letterbox"]
    batch_size: Count
    augment: list[Any]
    on_bad: Literal["error", "skip"]
    refit: Flag
    check: Flag
    cache_dir: Text
    ram_limit_mb: Whole

    @field_validator("augment", mode="wrap")
    @classmethod
    def known_transforms(
        cls, value: Any, handler: Callable[[Any], list[Any]], info: ValidationInfo
    ) -> list[Any]:
        """Names and settings, as the augmentation itself declares them."""
        if problems := check_augment(value, imports=bool((info.context or {}).get("imports"))):
            raise several(problems)
        return handler(value)

    def conflicts(self) -> Iterator[Problem]:
        """Values that are fine alone but not together."""
        yield from ()


class Objective(Node):
    """What the best checkpoint, early stopping and selection go by."""

    metric: Text
    mode: Mode
    keep: Literal["best", "last"]


class EarlyStopping(Node):
    """When a run ends before its last epoch."""

    patience: CountOrNull
    min_delta: NonNegative


class Figures(Node):
    """Pictures of predictions."""

    images: Whole


class ForeignData(ForeignPart):
    """A DataModule of a user's own. Keys of our data sets that it does not take are left out."""

    needed = ("train_dataloader", "LightningDataModule")

    @classmethod
    def comes_with(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """See `phasewise.config.arguments.data_arguments`."""
        return {"supplied": ("seed",), "beside": {*_data_keys(DataConfig)}}


def _data_keys(kind: type[DataConfig]) -> Iterator[str]:
    yield from kind.model_fields
    for other in kind.__subclasses__():
        yield from _data_keys(other)


class WorthTrying(Node):
    """A key that usually matters for a task: its values, as after ``-m``, and who says so."""

    overrides: Text
    source: Text


class Task(Node, Generic[Target]):
    """What conf/task/*.yaml says about the task itself; a user's own need name nothing to try."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$"), message("must be a short name, a-z")]
    schema_: str = Field(alias="schema")
    module: Module[Target]
    predictor: str | None
    worth_trying: list[WorthTrying] = Field(default_factory=list)

    @field_validator("module", mode="wrap")
    @classmethod
    def or_foreign(cls, value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        """The task's own, or one of a user's own."""
        if isinstance(value, dict) and comes_from_elsewhere(
            cls, info.field_name, value.get(TARGET)
        ):
            return ForeignModule.model_validate(value, context=info.context)
        return handler(value)


class RunConfig(Node):
    """The whole config but ``hydra``; a task's schema adds ``data``, ``model`` and ``loss``."""

    METRICS: ClassVar[Mapping[str, str]] = {}
    """Validation metrics of the task, each with the mode in which it is better."""

    FRACTIONS: ClassVar[Collection[str]] = ()
    """Those of them that lie within 0 and 1."""

    seed: Seed
    init_from: CheckpointOrNull
    test: Literal["auto", True, False]
    logger: Annotated[
        dict[str, Loggers],
        named_parts("loggers", "logger=wandb or +logger.NAME._target_=mypackage.Logger"),
    ]
    callbacks: Annotated[
        dict[str, Callbacks],
        named_parts("callbacks", "callbacks=swa or +callbacks.NAME._target_=mypackage.Callback"),
    ]
    task: Task[Any]
    objective: Objective
    early_stopping: EarlyStopping
    trainer: Trainer
    figures: Figures
    finetuning: Finetuning
    optimizer: Optimizer
    scheduler: Scheduler

    @field_validator("objective")
    @classmethod
    def selects_on_validation(cls, objective: Objective, info: ValidationInfo) -> Objective:
        """A metric of the validation split; of the task, where its module is, in the right
        direction."""
        metric = objective.metric
        if metric.startswith("test/"):
            raise wrong(
                "selection uses validation data only; the test split is for the final figures"
                + did_you_mean(metric.replace("test/", "val/", 1), cls.METRICS),
                key="metric",
            )
        if isinstance(getattr(info.data.get("task"), "module", None), ForeignModule):
            return objective
        if metric not in cls.METRICS:
            raise wrong(not_one_of(metric, cls.METRICS), key="metric")
        if objective.mode != cls.METRICS[metric]:
            raise wrong(_wrong_mode(metric, cls.METRICS[metric]), key="mode")
        return objective

    @field_validator("data", mode="wrap", check_fields=False)
    @classmethod
    def is_of_this_task(
        cls, value: Any, handler: Callable[[Any], Any], info: ValidationInfo
    ) -> Any:
        """One of the data sets that the task's schema names, or a user's own."""
        if isinstance(value, dict) and comes_from_elsewhere(
            cls, info.field_name, value.get(TARGET)
        ):
            return ForeignData.model_validate(value, context=info.context)
        return by_choice(value, handler)

    @classmethod
    def weight_names(cls, model: Mapping[str, Any]) -> list[str]:
        """What a file with the weights of a backbone may be called, the most telling name first.

        Args:
            model: the section of that name.
        """
        return [str(model["backbone"])] if model.get("backbone") else []

    def without_backbone(self) -> str | None:
        """Why the network has no backbone; None where it has one, or the config cannot tell."""
        return None

    def watched(self) -> dict[str, str]:
        """The metrics that a run goes by, under the keys that name them."""
        keys = {"objective.metric": self.objective.metric}
        monitors = (
            self.scheduler if isinstance(self.scheduler, Plateau | ForeignScheduler) else None
        )
        if monitors is not None and monitors.monitor is not None:
            keys["scheduler.monitor"] = monitors.monitor
        return keys

    def all_conflicts(self) -> Iterator[Problem]:
        """`conflicts`; what a task says of its own parts does not concern those of a user's own."""
        own = isinstance(self.task.module, ForeignModule)
        own |= isinstance(getattr(self, "data", None), ForeignData)
        yield from RunConfig.conflicts(self) if own else self.conflicts()
        yield from finetuning_conflicts(self)

    def conflicts(self) -> Iterator[Problem]:
        """Values that are fine alone but not together."""
        epochs, scheduler = self.trainer.max_epochs, self.scheduler
        lr = getattr(self.optimizer, "lr", math.inf)
        yield from self.trainer.conflicts()
        data = getattr(self, "data", None)  # a task's own class
        if isinstance(data, DataConfig):
            yield from data.conflicts()
        if isinstance(data, DataConfig) and data.refit:
            reason = "on samples that train, the best epoch is chance"
            if self.objective.keep == "best":
                yield Problem("data.refit=true", f"needs objective.keep=last: {reason}")
            if self.early_stopping.patience is not None:
                yield Problem("data.refit=true", f"needs early_stopping.patience=null: {reason}")
        model = getattr(self, "model", None)  # a task's own class
        if isinstance(model, Node):
            yield from self._weights_conflicts(model.model_dump())
        sgd = self.optimizer
        if isinstance(sgd, SGD) and sgd.nesterov and sgd.momentum == 0:
            yield Problem("optimizer.nesterov=true", "needs optimizer.momentum > 0")
        warmup = getattr(scheduler, "warmup_epochs", 0)
        if warmup >= epochs:
            reason = f"must be less than trainer.max_epochs={epochs}"
            yield Problem(f"scheduler.warmup_epochs={warmup}", reason)
        first = min(getattr(scheduler, "milestones", [epochs]))
        if first <= warmup < epochs:
            reason = f"the first must come after scheduler.warmup_epochs={warmup}"
            yield Problem(f"scheduler.milestones[0]={first}", reason)
        floor = getattr(scheduler, "min_lr", 0.0)
        if floor >= lr:
            yield Problem(
                f"scheduler.min_lr={format_value(floor)}", f"must be below optimizer.lr={lr}"
            )
        if isinstance(scheduler, Plateau):
            yield from self._plateau_conflicts(scheduler)

    def _weights_conflicts(self, model: Mapping[str, Any]) -> Iterator[Problem]:
        """A folder of weights that has none for the backbone; a file that is not whole."""
        names = self.weight_names(model)
        try:
            file = weights_file(model.get("pretrained"), names) if names else None
        except UserError as error:
            yield from error.problems
            return
        if file is not None and (reason := cut_off(file)) is not None:
            yield Problem(f"model.pretrained={file}", reason)

    def _plateau_conflicts(self, scheduler: Plateau) -> Iterator[Problem]:
        metric = scheduler.monitor or self.objective.metric
        mode = scheduler.mode or self.objective.mode
        if isinstance(self.task.module, ForeignModule):
            return  # nobody knows its metrics before it has logged them
        if metric not in self.METRICS:
            yield Problem(f"scheduler.monitor={metric}", not_one_of(metric, self.METRICS))
        elif mode != self.METRICS[metric]:
            key = f"scheduler.mode={format_value(scheduler.mode)}"
            yield Problem(key, _wrong_mode(metric, self.METRICS[metric]))


def _wrong_mode(metric: str, mode: str) -> str:
    return f"{metric} is better when {'higher' if mode == 'max' else 'lower'}; must be {mode}"


def check_config(cfg: DictConfig) -> None:
    """Validates a composed config by the schema that ``task.schema`` names.

    Args:
        cfg: the composed config, with or without its ``hydra`` node.

    Raises:
        UserError: everything that is wrong, in one message.
    """
    data: dict[str, Any] = {}  # interpolations still see the whole config
    for name in (str(name) for name in cfg if name not in NOT_OF_A_RUN):
        try:
            value = MISSING if OmegaConf.is_missing(cfg, name) else cfg[name]
            container = OmegaConf.is_config(value)
            data[name] = OmegaConf.to_container(value, resolve=True) if container else value
        except OmegaConfBaseException as error:
            key = error.full_key or name
            raise settings_error([Problem(key, str(error).splitlines()[0])]) from error
    schema = _schema(data.get("task"))
    missing = [key for key, value in flatten(data).items() if value == MISSING]
    problems = [must_be_given(key) for key in missing]
    try:
        config = schema.model_validate(data, context=CONTEXT)
    except ValidationError as error:
        found = problems_of(error, data)
        problems += [it for it in found if it.file.split("=")[0] not in missing]
    else:
        problems += config.all_conflicts()
        if isinstance(config.task.module, ForeignModule):
            problems += _lacking(data)
    if problems:
        raise settings_error(problems)


def _lacking(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Arguments of a foreign module that nobody gives."""
    node = data["task"]["module"]
    given = {*node, *available_arguments(data, {"class_names": ()}), "image_size"}
    for name, parameter in signature_of(node[TARGET]).parameters.items():
        named = parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        if named and parameter.default is Parameter.empty and name not in given:
            reason = f"{node[TARGET]} needs it: +task.module.{name}=VALUE"
            yield Problem(f"task.module.{name}", reason)


def weights_of(config: Mapping[Any, Any]) -> Path | None:
    """The file with a backbone's weights in the folder that a config names; ``None`` if it names
    none, or the folder has no such file.

    Args:
        config: of a run, as plain containers.
    """
    model = config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("pretrained"), str):
        return None
    try:
        return weights_file(model["pretrained"], weight_names_of(config))
    except UserError:
        return None


def weight_names_of(config: Mapping[Any, Any]) -> list[str]:
    """`RunConfig.weight_names` of a config's backbone."""
    return _schema(config.get("task")).weight_names(config["model"])


def metrics_of(cfg: DictConfig) -> Mapping[str, str]:
    """The validation metrics of a config's task, each with the mode in which it is better."""
    return _schema(OmegaConf.to_container(cfg.task, resolve=True)).METRICS


def fractions_of(cfg: DictConfig) -> Collection[str]:
    """The validation metrics of a config's task that lie within 0 and 1."""
    return _schema(OmegaConf.to_container(cfg.task, resolve=True)).FRACTIONS


def _schema(task: Any) -> type[RunConfig]:
    """The class that ``task.schema`` names."""
    name = task.get("schema") if isinstance(task, Mapping) else None
    schema = project_class(name, RunConfig) or _own_schema(name)
    if schema is None:
        reason = (
            "must name a subclass of phasewise.config.schema.RunConfig, as PACKAGE.MODULE.CLASS"
        )
        raise settings_error([Problem(f"task.schema={format_value(name)}", reason)])
    return schema


def _own_schema(name: Any) -> type[RunConfig] | None:
    """A schema of a user's own package, which the person at the keyboard has named."""
    try:
        found = find_object(str(name))
    except TargetError:
        return None
    return found if isinstance(found, type) and issubclass(found, RunConfig) else None
