"""Types and values of ``trainer``: the arguments of Lightning's Trainer, and our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from phasewise.config.fields import (
    Batches,
    Count,
    CountOrNull,
    Flag,
    Node,
    PositiveOrNull,
    Whole,
    message,
    wrong,
)
from phasewise.config.help import did_you_mean
from phasewise.config.signatures import TARGET, trainer_arguments
from phasewise.config.targets import check_target
from phasewise.errors import Problem
from phasewise.text import format_value

PROFILERS = ("simple", "advanced", "pytorch")

ELSEWHERE = {
    "logger": "loggers are a group: logger=wandb, +logger.NAME._target_=CLASS",
    "callbacks": "callbacks are a group: callbacks=swa, +callbacks.NAME._target_=CLASS",
    "default_root_dir": "hydra.run.dir=DIR chooses where a run is written",
    "plugins": "how checkpoints are written is the run's own; trainer.precision and "
    "trainer.strategy choose the others",
    "use_distributed_sampler": "the loaders share out their rows among devices themselves",
    "limit_predict_batches": "train.py predicts nothing; predict.py does",
    "reload_dataloaders_every_n_epochs": "the loaders draw anew in each epoch themselves",
    "barebones": "leaves out what a run is kept by: metrics, checkpoints, its record; "
    "benchmarks/training.py measures a bare step",
    "model_registry": "belongs to Lightning's own cloud; logger=wandb or logger=mlflow keep models",
}
"""Arguments of Lightning's Trainer that the run gives, or has no use for, and what does it."""


def _steps(value: Any) -> int:
    if type(value) is int and (value == -1 or value >= 1):
        return value
    raise wrong("must be a whole number >= 1, or -1 for no limit")


def _duration(value: Any) -> Any:
    """As Lightning takes it: DD:HH:MM:SS, or the arguments of a timedelta."""
    if value is None or (isinstance(value, str) and re.fullmatch(r"\d+:\d\d?:\d\d?:\d\d?", value)):
        return value
    if isinstance(value, dict) and value:
        try:
            if timedelta(**value) > timedelta(0):
                return value
        except TypeError:
            pass
    raise wrong("must be DD:HH:MM:SS in quotes, e.g. '\"00:01:30:00\"', or {hours: 1}, or null")


def _dev_run(value: Any) -> bool | int:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise wrong("must be true (one batch of each split), false, or a number of batches >= 1")


def _once_an_epoch(value: Any) -> Any:
    if value is None or (type(value) is float and value == 1):  # a whole 1 is each batch
        return value
    raise wrong(
        "a row of metrics.csv and a checkpoint are of a whole epoch; "
        "trainer.limit_train_batches makes epochs shorter"
    )


def _profiler(value: Any) -> Any:
    if isinstance(value, dict) and TARGET in value:
        check_target(value, supplied=("dirpath", "filename"))
        return value
    if value is None or value in PROFILERS:
        return value
    near = did_you_mean(value, PROFILERS)
    raise wrong(f"not one of {', '.join(PROFILERS)}, null or a mapping with _target_{near}")


class Arguments(BaseModel):
    """Arguments of Lightning's Trainer that no file has."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    min_epochs: CountOrNull = None
    max_steps: Annotated[int, BeforeValidator(_steps)] = -1
    min_steps: CountOrNull = None
    max_time: Annotated[Any, BeforeValidator(_duration)] = None
    fast_dev_run: Annotated[bool | int, BeforeValidator(_dev_run)] = False
    overfit_batches: Whole = 0
    limit_test_batches: Batches = 1.0
    num_nodes: Annotated[
        Literal[1],
        message("a run is of one machine; hydra/launcher=submitit_slurm spreads a study's trials"),
    ] = 1
    num_sanity_val_steps: Annotated[
        int, Field(ge=-1), message("must be a whole number >= 0, or -1 for all")
    ] = 0
    val_check_interval: Annotated[Any, BeforeValidator(_once_an_epoch)] = None
    enable_checkpointing: Annotated[
        Literal[True],
        message("a run keeps its best epoch by checkpoints; trainer.fast_dev_run has none"),
    ] = True
    enable_model_summary: Flag = False
    benchmark: bool | None = None
    inference_mode: Flag = True
    profiler: Annotated[Any, BeforeValidator(_profiler)] = None
    detect_anomaly: Flag = False
    sync_batchnorm: Flag = False
    enable_autolog_hparams: Flag = True


class Trainer(Node):
    """Lightning's Trainer. What has no default here stands in ``conf/trainer/default.yaml``."""

    model_config = ConfigDict(extra="allow")

    OURS: ClassVar = ("pause_after", "auto_accumulate", "compile", "train_metrics")
    _arguments: Arguments = PrivateAttr()

    max_epochs: Count
    pause_after: CountOrNull
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Count
    strategy: Literal[
        "auto",
        "ddp",
        "ddp_find_unused_parameters_true",
        "ddp_find_unused_parameters_false",
    ]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    gradient_clip_val: PositiveOrNull
    gradient_clip_algorithm: Literal["norm", "value", "tensor_norm"]
    accumulate_grad_batches: Count
    auto_accumulate: Flag
    limit_train_batches: Batches
    limit_val_batches: Batches
    check_val_every_n_epoch: Count
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"]
    deterministic: Annotated[bool | Literal["warn"], message("must be true or false, or warn")]
    enable_progress_bar: Flag
    train_metrics: Flag
    log_every_n_steps: CountOrNull

    @model_validator(mode="after")
    def is_lightnings(self) -> Trainer:
        """Other keys are arguments of the installed Lightning, which may have newer ones."""
        errors = []
        for key, value in (self.model_extra or {}).items():
            if key in ELSEWHERE:
                text = ELSEWHERE[key]
            elif key not in (known := trainer_arguments()):
                near = did_you_mean(key, [*known, *self.OURS])
                text = f"Lightning's Trainer takes no such argument{near}"
            else:
                continue
            kind = PydanticCustomError("message", "{text}", {"text": text, "key": ""})
            errors.append(InitErrorDetails(type=kind, loc=(key,), input=value))
        if errors:
            raise ValidationError.from_exception_data("trainer", errors)
        self._arguments = Arguments.model_validate(self.model_extra or {})
        return self

    def conflicts(self) -> Iterator[Problem]:
        """Values that are fine alone but not together."""
        more = self._arguments
        every = self.check_val_every_n_epoch
        if every > self.max_epochs:
            reason = f"with trainer.max_epochs={self.max_epochs} nothing is ever validated"
            yield Problem(f"trainer.check_val_every_n_epoch={every}", reason)
        if self.gradient_clip_algorithm != "norm" and self.gradient_clip_val is None:
            reason = "nothing is clipped with trainer.gradient_clip_val=null"
            yield Problem(f"trainer.gradient_clip_algorithm={self.gradient_clip_algorithm}", reason)
        if self.auto_accumulate and self.devices > 1:
            reason = "works on one device only: the others do not see that one ran out of memory"
            yield Problem("trainer.auto_accumulate=true", reason)
        if more.min_epochs is not None and more.min_epochs > self.max_epochs:
            reason = f"is more than trainer.max_epochs={self.max_epochs}"
            yield Problem(f"trainer.min_epochs={more.min_epochs}", reason)
        if self.pause_after is not None:
            for key in ("min_epochs", "min_steps", "fast_dev_run", "max_time"):
                if value := getattr(more, key):
                    reason = "does not go with trainer.pause_after, which ends it for now"
                    yield Problem(f"trainer.{key}={format_value(value)}", reason)
        if more.min_steps is not None and 0 < more.max_steps < more.min_steps:
            reason = f"is more than trainer.max_steps={more.max_steps}"
            yield Problem(f"trainer.min_steps={more.min_steps}", reason)
        if more.overfit_batches and self.limit_train_batches != 1.0:
            reason = "says already how many batches train; leave trainer.limit_train_batches out"
            yield Problem(f"trainer.overfit_batches={more.overfit_batches}", reason)
