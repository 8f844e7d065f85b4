"""Lightning's trainer, as a run wants it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_class
from lightning.pytorch.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from phasewise.config.signatures import TARGET
from phasewise.config.targets import accepted, build
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.resources import check_devices, find_device, used_precision
from phasewise.errors import UserError
from phasewise.records.history import History
from phasewise.training.callbacks import BackgroundSaving, build_callbacks, shows_progress
from phasewise.training.clipping import PER_TENSOR
from phasewise.training.logs import build_loggers
from phasewise.training.saving import WholeCheckpointIO
from phasewise.training.train_metrics import check_train_metrics

NOT_LIGHTNINGS = (
    "pause_after",
    "auto_accumulate",
    "compile",
    "overfit_batches",
    "train_metrics",
)
"""Keys of ``trainer`` that Lightning does not know, or that the data see to."""

PROFILERS = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
PROFILE = "profile"
"""How the names of a profiler's files begin, in the run's directory."""

DEFAULTS = {
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10**9,  # the epoch's means are logged; single steps by `StepLog`
}
"""Arguments of Lightning's Trainer with another default here."""


class _Unprofiled(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, for less: a step passes it a hundred times."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._nothing


def build_trainer(
    config: Mapping[str, Any],
    task: str,
    directory: Path,
    history: History,
    origin: Mapping[str, Any],
) -> L.Trainer:
    """The trainer of a run, with its callbacks and loggers.

    Args:
        config: the run's config as plain containers.
        task: its name, for the loggers.
        directory: of the run.
        history: see `phasewise.training.callbacks.build_callbacks`.
        origin: see `WholeCheckpointIO`.

    Raises:
        UserError: there is no such device here, or not so many; a logger cannot be had; module or
            data cannot be evaluated on training images.
    """
    settings = {k: v for k, v in config["trainer"].items() if k not in NOT_LIGHTNINGS}
    if settings.get("log_every_n_steps") is None:  # which Lightning takes for 50
        settings.pop("log_every_n_steps", None)
    if not issubclass(get_class(config["data"]["_target_"]), StoreDataModule):
        settings["overfit_batches"] = config["trainer"].get("overfit_batches", 0)
    check_devices(settings["accelerator"], settings["devices"])
    if config["trainer"].get("train_metrics"):
        check_train_metrics(config)
    settings["precision"] = used_precision(settings["precision"], settings["accelerator"])
    if settings.get("gradient_clip_algorithm") == PER_TENSOR:  # a callback does it
        del settings["gradient_clip_algorithm"], settings["gradient_clip_val"]
    settings["enable_progress_bar"] = shows_progress(settings)
    settings["profiler"] = _profiler(settings.get("profiler"), directory)
    if settings.get("enable_model_summary"):
        logging.getLogger("lightning.pytorch.callbacks.model_summary").setLevel(logging.INFO)
    has_time = find_device(settings["accelerator"]).type != "cpu"  # the processor, then
    if not has_time:
        _ask_briefly()
    saving = WholeCheckpointIO(origin)
    try:
        return L.Trainer(
            **DEFAULTS | settings,
            default_root_dir=directory,
            logger=build_loggers(config["logger"], task, directory),
            callbacks=build_callbacks(config, directory, history),
            plugins=[BackgroundSaving(saving) if has_time else saving],
            use_distributed_sampler=False,
        )
    except RuntimeError as error:
        if alike := re.search(r"more than one stateful callback of type `(\w+)`", str(error)):
            raise UserError(
                f"callbacks: a checkpoint cannot tell two of {alike[1]} apart, and the run has its "
                "own; another monitor or every_n_epochs does"
            ) from error
        raise


def _profiler(wanted: Any, directory: Path) -> Profiler:
    """One that writes into the run's directory, by name or a mapping with a `_target_`."""
    place = {"dirpath": str(directory), "filename": PROFILE}
    if wanted is None:
        return _Unprofiled()
    if isinstance(wanted, str):
        return PROFILERS[wanted](**place)
    own = {key: place[key] for key in accepted(wanted[TARGET], place)}
    found: Profiler = build(wanted, where="trainer.profiler", kind=Profiler, **own)
    return found


def _ask_briefly() -> None:
    """Whether there is a GPU, Adam asks at each step, and Lightning has torch look for NVIDIA's
    library each time, so that the answer leaves no trace in processes that are forked: half a
    millisecond where nothing is found. None are forked here; `restored_state` undoes it."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
