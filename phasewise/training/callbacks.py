"""What happens around the epochs of a run: history, the line per epoch, checkpoints, stopping."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.utilities.data import extract_batch_size

from phasewise.config.help import not_one_of
from phasewise.config.signatures import TARGET
from phasewise.config.targets import accepted, build
from phasewise.data.batch import Batch
from phasewise.data.seeding import derive, seed_torch
from phasewise.errors import DivergedError, UserError
from phasewise.records.checkpoints import BEST, FOLDER, LAST
from phasewise.records.history import History
from phasewise.training.clipping import PER_TENSOR, ClipEachTensor
from phasewise.training.module import TaskModule
from phasewise.training.steps import StepLog
from phasewise.training.train_metrics import TrainMetrics

log = logging.getLogger(__name__)


class EpochLog(Callback):
    """One row of ``metrics.csv`` and one line on the console per epoch; stops a diverged run.

    Raises:
        DivergedError: at the end of an epoch with a loss that is not finite.
        UserError: at the end of an epoch whose validation has not logged the objective.
    """

    def __init__(self, history: History, objective: Mapping[str, str]) -> None:
        self.history = history
        self.metric, self.mode = objective["metric"], objective["mode"]
        self._images = 0
        self._train_seconds = 0.0
        self._start = self._validation_start = 0.0
        self._validated = False

    @property
    def images_per_second(self) -> float | None:
        """Training images per second on this device, validation time left out."""
        return self._images / self._train_seconds if self._train_seconds else None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the images."""
        self._images += count_images(batch)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock."""
        self._start, self._validation_start = time.perf_counter(), 0.0
        self._validated = False

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Training of this epoch is over."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Lightning keeps old values for epochs without validation; they are not this epoch's."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Add the epoch to the history."""
        now = time.perf_counter()
        if isinstance(module, TaskModule):  # its own hook comes after those of callbacks
            module.log_noted()
        self._train_seconds += (self._validation_start or now) - self._start
        row: dict[str, float] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(now - self._start, 3),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        self._check_objective(trainer)
        for name, value in sorted(trainer.callback_metrics.items()):
            if name.startswith("train/") or (name.startswith("val/") and self._validated):
                row[name] = float(value)
        if trainer.is_global_zero:
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self.history.append(row)
            log.info(self._line(row, trainer.max_epochs, getattr(module, "headline", ())))
        for logger in trainer.loggers:
            logger.log_metrics({"lr": row["lr"]}, step=trainer.global_step)
        for name in ("train/loss", "val/loss"):
            if not math.isfinite(row.get(name, 0.0)):
                raise DivergedError(
                    f"{name} became {row[name]} in epoch {row['epoch']}; a smaller "
                    "optimizer.lr, a scheduler with warm-up or trainer.gradient_clip_val may help"
                )

    def _check_objective(self, trainer: L.Trainer) -> None:
        """A foreign module's metrics are known only now."""
        found = [name for name in trainer.callback_metrics if name.startswith("val/")]
        if self._validated and self.metric not in found:
            raise UserError(f"objective.metric={self.metric}: {not_one_of(self.metric, found)}")

    def _line(self, row: Mapping[str, float], epochs: int | None, headline: Sequence[str]) -> str:
        scores = (f"val/{name}" for name in headline)
        names = dict.fromkeys(("train/loss", "val/loss", self.metric, *scores))
        values = "  ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
        best = self.history.best(self.metric, self.mode)
        mark = "  *" if best is not None and best["epoch"] == row["epoch"] else ""
        return f"epoch {row['epoch']}/{epochs}  {values}  {row['seconds']:.1f} s{mark}"


class StepSeed(Callback):
    """Dropout draws from torch's global generator: each step starts it anew, so that a resumed run
    equals one that was not interrupted.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by the place in the run."""
        place = trainer.current_epoch, batch_idx, trainer.global_rank
        seed_torch(derive(self.seed, "step", *place), module.device)


def count_images(batch: Any) -> int:
    """How many images a batch has; of a foreign one, what Lightning takes for its size."""
    return len(batch["image"]) if isinstance(batch, Batch) else extract_batch_size(batch)


class _Stopping(EarlyStopping):
    """Stays stopped when a run that was killed after its last epoch is taken up again."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class _Pause(Callback):
    """Stops after so many epochs, and a run that is taken up again after them at once."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or trainer.current_epoch >= self.epochs

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or trainer.current_epoch + 1 >= self.epochs


def is_paused(trainer: L.Trainer) -> bool:
    """Whether ``fit`` has ended for ``trainer.pause_after``, and not also for another reason."""
    found = trainer.callbacks  # type: ignore[attr-defined]
    paused = any(trainer.current_epoch >= it.epochs for it in found if isinstance(it, _Pause))
    ended = 0 < trainer.max_steps <= trainer.global_step or epochs_without_gain(trainer) is not None
    return paused and trainer.current_epoch < (trainer.max_epochs or 0) and not ended


def epochs_without_gain(trainer: L.Trainer) -> int | None:
    """After how many epochs that did not better the objective ``fit`` has ended; None: it has ended
    otherwise."""
    found = trainer.callbacks  # type: ignore[attr-defined]
    stopping = (it for it in found if isinstance(it, _Stopping))
    return next((it.wait_count for it in stopping if it.wait_count >= it.patience), None)


class _LastStep(Callback):
    """Has the epoch validated that ``trainer.max_steps`` cuts short: Lightning just ends it."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class BackgroundSaving(AsyncCheckpointIO):
    """Writes checkpoints while the next epoch trains, from a copy that is made at once.

    For devices that leave the processor time for it. One at a time: where writing takes longer than
    an epoch, copies would pile up in memory. The end of ``fit`` waits for the last one.

    Raises:
        StorageError: from the next save, or from ``teardown``, if one could not be written.
    """

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Begin to write; wait before for what is being written."""
        self.teardown()
        super().save_checkpoint(*args, **kwargs)


def _checkpoints(directory: Path, objective: Mapping[str, str]) -> list[Callback]:
    best = ModelCheckpoint(
        directory,
        BEST,
        monitor=objective["metric"] if objective["keep"] == "best" else None,
        mode=objective["mode"],
        save_weights_only=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        directory, LAST, save_on_train_epoch_end=True, enable_version_counter=False
    )
    return [best, last]


def build_callbacks(config: Mapping[str, Any], directory: Path, history: History) -> list[Callback]:
    """The callbacks of a run.

    Args:
        config: the run's config as plain containers.
        directory: of the run.
        history: shared with whoever writes the record.

    Raises:
        UserError: one of a user's own cannot be made.
    """
    objective, stopping = config["objective"], config["early_stopping"]
    pause = config["trainer"]["pause_after"]
    callbacks: list[Callback] = [StepSeed(config["seed"])]
    if config["trainer"].get("train_metrics"):
        callbacks.append(TrainMetrics())
    if every := config["trainer"].get("log_every_n_steps"):
        callbacks.append(StepLog(directory, every))
    callbacks.append(EpochLog(history, objective))
    if config["trainer"].get("gradient_clip_algorithm") == PER_TENSOR:
        callbacks.append(ClipEachTensor(config["trainer"]["gradient_clip_val"]))
    if config["trainer"].get("max_steps", -1) > 0:
        callbacks.append(_LastStep())
    if stopping["patience"] is not None:
        callbacks.append(
            _Stopping(
                objective["metric"],
                mode=objective["mode"],
                patience=stopping["patience"],
                min_delta=stopping["min_delta"],
                check_finite=False,  # an undefined metric is no reason to stop
            )
        )
    if pause is not None:
        callbacks.append(_Pause(pause))
    for name, node in config.get("callbacks", {}).items():
        own = {key: str(directory / name) for key in accepted(node[TARGET], ("dirpath",))}
        callbacks.append(build(node, where=f"callbacks.{name}", kind=Callback, **own))
    if shows_progress(config["trainer"]):
        callbacks.append(TQDMProgressBar(leave=False))
    return callbacks + _checkpoints(directory / FOLDER, objective)


def shows_progress(trainer: Mapping[str, Any]) -> bool:
    """Whether a bar within the epoch is wanted and somebody can see it."""
    seen = sys.stderr is not None and sys.stderr.isatty()  # None: a daemon's, closed
    return trainer["enable_progress_bar"] and seen
