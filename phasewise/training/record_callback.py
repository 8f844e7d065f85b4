"""The record of a Lightning script that is anybody's; see `phasewise.lightning`."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Container, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from phasewise.errors import UserError
from phasewise.records.job import hydra_job
from phasewise.records.record import read_record
from phasewise.records.recorder import Recorder

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""Two names of one library, whose classes are not each other's."""

_SPLIT = re.compile(r"(train|val|test|valid|validation)_(.+)")

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback as _Callback

    _BASES = (_Callback,)
else:

    def _callback_classes() -> Iterator[type]:
        """Of the packages that were imported; of what is installed, where none was."""
        wanted = [name for name in PACKAGES if name in sys.modules]
        for name in wanted or PACKAGES:
            try:
                yield import_module(f"{name}.callbacks").Callback
            except ModuleNotFoundError:
                continue
            if not wanted:
                return

    class _Callback(*_callback_classes()):
        """A callback to each package that is in use."""


class RecordCallback(_Callback):
    """Writes ``record.json`` and ``metrics.csv`` of whatever a Trainer fits, validates and tests.

    ``Trainer(callbacks=[RecordCallback("val/acc")])``, of the package ``lightning`` or
    ``pytorch_lightning``; nothing else of a script changes. In a job of Hydra's the run's
    directory, overrides, seed and fingerprint are the job's, and under phasewise's sweeper it is a
    trial of its study. Elsewhere the directory is the logger's, and hyper-parameters that module
    and DataModule have saved are the settings.

    - Each epoch is a row: all that the Trainer has in ``callback_metrics``; values of the
      validation only in epochs that were validated. ``val_loss`` is called ``val/loss``, as reports
      read it; the objective is called as it was named.
    - ``test`` after ``fit``, or of a run that has completed before, adds its metrics to the record.
      ``validate`` or ``test`` alone is a run of one row, if it logs the objective.
    - Cost: seconds, seconds per epoch, parameters, memory of the device; checkpoints of the first
      ``ModelCheckpoint``.
    - What ends ``fit`` early ends the record: ``failed``, ``out_of_memory``, ``interrupted``,
      ``diverged`` (``train/loss`` or ``val/loss`` is not finite, which stops the Trainer).
    - Under ``fast_dev_run`` nothing is written.

    Args:
        objective: the metric that the run is judged by. In a trial of a study the study's goes
            before it; None is enough there.
        mode: ``max`` or ``min``; None is ``max``. The study's goes before it, too.
        directory: of the run; None: as above.
        config: settings of the run, in place of the saved hyper-parameters.
        task: what reports call the application; None: the name of the script.

    Raises:
        UserError: as `phasewise.records.recorder.Recorder`.
    """

    def __init__(
        self,
        objective: str | None = None,
        mode: Literal["max", "min"] | None = None,
        directory: str | Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__()
        self._objective, self._mode, self._task = objective, mode, task
        self._directory, self._config = directory, config
        Recorder(directory, objective, mode)  # a wrong mode is told where it is written
        self._run: Recorder | None = None
        self._val: set[str] = set()
        self._before: set[str] = set()
        self._fresh = self._trained = False
        self._start = 0.0

    @property
    def run(self) -> Recorder | None:
        """Of the last ``fit``; None before, and in processes that are not the first of several."""
        return self._run

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin the record of a fit."""
        others = {type(it).__module__ for it in trainer.callbacks}
        if "phasewise.training.callbacks" in others:
            raise UserError("RecordCallback: this run has a record of its own; leave it out")
        if stage != "fit" or trainer.fast_dev_run:
            return
        place = self._place(trainer)  # which all processes must ask for
        if not trainer.is_global_zero:
            return
        self._run = self._recorder(trainer, pl_module, place)
        self._run.start()
        self._val, self._fresh = set(), False
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """A fit that goes on from the end of an epoch has no start of it."""
        self._start, self._trained = time.perf_counter(), False

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """This epoch is computed here."""
        self._trained = True

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock; what the module has logged at the end of the last epoch is there now."""
        self._complement(trainer)
        self._start = time.perf_counter()
        self._fresh = False

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """What is new at the end of the validation is its."""
        self._before = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The Trainer keeps old values for epochs without validation; they are not theirs."""
        self._val |= set(trainer.callback_metrics) - self._before
        self._fresh = not trainer.sanity_checking
        if self._run is None or not self._run.is_open:
            self._evaluated(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the epoch."""
        if self._run is None or not self._run.is_open:
            return
        number = trainer.current_epoch + 1
        if not self._trained and any(row["epoch"] == number for row in self._run.history.rows):
            return  # the checkpoint is of its end; an earlier process has written it
        self._trained = False
        rates = [group["lr"] for it in trainer.optimizers[:1] for group in it.param_groups[:1]]
        row = {
            "step": trainer.global_step,
            "seconds": round(time.perf_counter() - self._start, 3),
            **({"lr": float(rates[0])} if rates else {}),
        }
        self._run.log(row | self._of_epoch(trainer, self._run), epoch=number)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """As at the start of an epoch."""
        self._complement(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """The run has completed, unless Ctrl-C stopped it."""
        if self._run is not None and self._run.is_open:
            self._note(trainer, pl_module)
            self._run.finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The run has ended early."""
        if self._run is not None and self._run.is_open:
            self._note(trainer, pl_module)
            self._run.fail(exception)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Add the metrics of the test split."""
        self._evaluated(trainer, pl_module, test=True)

    def _evaluated(self, trainer: Any, module: Any, *, test: bool = False) -> None:
        """``validate`` or ``test``, outside of ``fit``."""
        if trainer.sanity_checking or trainer.fast_dev_run or trainer.state.fn == "fit":
            return
        place = self._place(trainer)
        if not trainer.is_global_zero:
            return
        run, metrics = self._run, _metrics(trainer, self._objective)
        if run is not None:
            if test and run.record.status == "completed":
                run.test(metrics)
            return
        before = read_record(place or _job_directory())
        known = before is not None and before.status == "completed"
        if not known and self._objective not in (None, *metrics):
            return  # nothing to judge it by
        run = self._recorder(trainer, module, place)
        run.start()
        if not run.done:
            run.log(metrics)
        if test:
            run.test(metrics)
        run.finish()

    def _place(self, trainer: Any) -> Path | None:
        """The run's directory; None for that of Hydra's job."""
        if self._directory is not None:
            return Path(self._directory)
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if hydra_job() is not None:
            return None
        csv = [it for it in trainer.loggers if type(it).__name__ == "CSVLogger"]
        taken = any(Path(it.log_dir).absolute() == folder.absolute() for it in csv)
        return folder.with_name(f"{folder.name}_record") if taken else folder  # both metrics.csv

    def _recorder(self, trainer: Any, module: Any, place: Path | None) -> Recorder:
        config, seed = self._config, os.environ.get("PL_GLOBAL_SEED")
        if config is None and hydra_job() is None:
            data = getattr(getattr(trainer, "datamodule", None), "hparams", None) or {}
            config = {**dict(module.hparams), **{f"data.{k}": it for k, it in data.items()}}
            config["trainer.max_epochs"] = trainer.max_epochs
        number = int(seed) if seed and hydra_job() is None else None
        return Recorder(
            place, self._objective, self._mode, config=config, seed=number, task=self._task
        )

    def _of_epoch(self, trainer: Any, run: Recorder) -> dict[str, float]:
        old = set() if self._fresh else self._val
        return _metrics(trainer, run.objective, old)

    def _complement(self, trainer: Any) -> None:
        """Add what the module has logged after this callback's turn at the end of an epoch."""
        if self._run is None or not self._run.is_open:
            return
        if not self._run.rows:
            return
        row = self._run.rows[-1]
        found = self._of_epoch(trainer, self._run)
        later = {name: it for name, it in found.items() if not _same(row.get(name), it)}
        if later:
            self._run.log({"seconds": row["seconds"]} | later, epoch=int(row["epoch"]))

    def _note(self, trainer: Any, module: Any) -> None:
        """What the fit has cost, and where its weights are."""
        assert self._run is not None
        parameters = [*module.parameters()]
        self._run.cost(
            parameters=sum(it.numel() for it in parameters),
            trained_parameters=sum(it.numel() for it in parameters if it.requires_grad),
        )
        device = trainer.strategy.root_device
        if device.type == "cuda":
            self._run.cost(peak_memory_mb=torch.cuda.max_memory_allocated(device) / 2**20)
        saver = trainer.checkpoint_callback
        paths = {
            "best": getattr(saver, "best_model_path", ""),
            "last": getattr(saver, "last_model_path", ""),
        }
        found = {name: Path(path).absolute() for name, path in paths.items() if path}
        self._run.checkpoints(**found)


def _job_directory() -> Path:
    job = hydra_job()
    assert job is not None
    assert job.directory is not None
    return job.directory


def _metrics(trainer: Any, objective: str | None, without: Container[str] = ()) -> dict[str, float]:
    """What was logged, under the names that reports know: ``val/loss`` of ``val_loss``."""
    found = {}
    for name, value in _whole(trainer.callback_metrics).items():
        parts = _SPLIT.fullmatch(name)
        if name not in without:
            split = "val" if parts and parts[1].startswith("val") else parts and parts[1]
            shown = f"{split}/{parts[2]}" if parts and name != objective else name
            found[shown] = float(value)
    return found


def _same(one: float | None, other: float) -> bool:
    return one is not None and (one == other or (math.isnan(one) and math.isnan(other)))


def _whole(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Without the copies that Lightning makes of what is logged by step and by epoch:
    ``loss_step``, ``loss_epoch`` and ``loss``."""
    doubled = {name.removesuffix("_epoch") for name in metrics if name.endswith("_epoch")}
    doubled = {name for name in doubled if f"{name}_step" in metrics}
    copies = {f"{name}_step" for name in doubled}
    copies |= {f"{name}_epoch" for name in doubled if name in metrics}
    return {name: value for name, value in metrics.items() if name not in copies}
