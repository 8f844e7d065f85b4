"""Losses of single steps, into ``steps.csv`` and the loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from phasewise.records.steps import append_steps
from phasewise.training.module import TaskModule


class StepLog(Callback):
    """Keeps the training losses of each ``every``-th optimizer step.

    They stay on the device until the epoch ends: no step waits for them. With gradients
    accumulated, a step's loss is the mean over its batches; with several devices, over these too.

    Args:
        directory: of the run.
        every: optimizer steps.
    """

    def __init__(self, directory: Path, every: int) -> None:
        self.directory, self.every = directory, every
        self._sum: Tensor | None = None
        self._batches = self._step = 0
        self._names: tuple[str, ...] = ()
        self._kept: list[tuple[int, float, Tensor]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """What an epoch that was cut short has left is no part of this one."""
        self._sum, self._batches, self._step = None, 0, trainer.global_step
        self._kept.clear()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the batch to its step."""
        values = _losses(module, outputs, trainer.accumulate_grad_batches)
        if not values:
            return
        self._names = tuple(values)
        found = torch.stack([value.detach().float() for value in values.values()])
        self._sum = found if self._sum is None else self._sum + found
        self._batches += 1
        if trainer.global_step == self._step:
            return  # more batches belong to this step
        self._step = trainer.global_step
        if self._step % self.every == 0:
            batches = trainer.num_training_batches
            part = 0.0 if math.isinf(batches) else (batch_idx + 1) / batches
            place = self._step, trainer.current_epoch + part
            self._kept.append((*place, self._sum / self._batches))
        self._sum, self._batches = None, 0

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the epoch's steps."""
        if not self._kept or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        values = torch.stack([value for *_, value in self._kept])
        values = trainer.strategy.reduce(values, reduce_op="mean").cpu()
        if not trainer.is_global_zero:
            return
        rows = [
            [step, round(epoch, 6), *row]
            for (step, epoch, _), row in zip(self._kept, values.tolist(), strict=True)
        ]
        append_steps(self.directory, self._names, rows)
        for step, _, *row in rows:
            named = {f"{name}_step": value for name, value in zip(self._names, row, strict=True)}
            for logger in trainer.loggers:
                logger.log_metrics(named, step=int(step))


def _losses(module: L.LightningModule, outputs: Any, parts: int) -> dict[str, Tensor]:
    """Of a module of ours what it noted; of another, the loss that its step returned."""
    if isinstance(module, TaskModule):
        noted = module.step_values
        return {name: it for name, it in noted.items() if name.split("/")[1:2] == ["loss"]}
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return {"train/loss": loss * parts} if isinstance(loss, Tensor) else {}  # Lightning divides it
