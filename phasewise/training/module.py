"""The LightningModule that all tasks share: batches, optimizer, schedule, and what is logged.

What a task adds to it is in `phasewise.training.contract`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from phasewise.config.trust import refuse_foreign
from phasewise.data.batch import Batch, checked_images
from phasewise.errors import UserError
from phasewise.networks.backbones import LATER
from phasewise.training.averaging import Averaging
from phasewise.training.checkpoints import kept_arguments
from phasewise.training.contract import Scores, TaskContract
from phasewise.training.finetuning import Came, Finetuning, distance, weights_that_came
from phasewise.training.optim import build_optimizer, build_schedulers

__all__ = ["OPTIMIZER", "SCHEDULER", "Scores", "TaskModule", "defined"]

OPTIMIZER = {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 1e-4}
"""Where none is asked for."""

SCHEDULER = {"name": "none"}
"""Where none is asked for: a constant learning rate."""

_OF_THE_BATCH = ("image", "mix_index", "mix_lambda")
"""What mixup leaves where it is: the blended images, and how they were blended."""


class TaskModule(TaskContract):
    """A network with its loss, its metrics and its trivial competitors: the steps of training.

    It works under any ``lightning.Trainer``: it logs ``train/loss`` and the validation metrics and
    steps its schedules itself. A batch is a dict; each task says what it must hold besides
    ``image``: RGB ``(B, 3, S, S)``, uint8, or float from 0 to 1.

    A subclass calls ``save_hyperparameters(logger=False)``, so that `load_from_checkpoint` needs no
    more than the path.

    Args:
        loss_terms: the names of the terms of the loss.
        optimizer: ``_target_``, a class of ``torch.optim`` or like those, and its arguments; None
            for `OPTIMIZER`.
        scheduler: ``name`` (``none``, ``plateau``, ``cosine``, ``multistep``, ``onecycle``) and its
            settings as in ``conf/scheduler``, or ``_target_`` and the arguments of another one;
            None for `SCHEDULER`.
        finetuning: how weights that came with the run are treated, see
            `phasewise.training.finetuning.Finetuning`; None leaves everything as it is.
        monitor: the metric that decides which weights are best, and that ``plateau`` watches.
        mode: whether more of it is better: ``max``, ``min``.

    Raises:
        UserError: an unknown key of ``finetuning``.
        ValueError: a value of it is out of its range.

    Attributes:
        came: which weights came with the run, and were not drawn; None: those of the backbone,
            where the constructor has an argument ``pretrained`` that is set.
        start: of the network, the weights that came, where ``finetuning`` goes back to them.
        averaging: what puts in the weights that are validated, where these are not those trained.
        step_values: what the last training batch has noted, see `note`.
    """

    def __init__(
        self,
        loss_terms: Sequence[str],
        *,
        optimizer: Mapping[str, Any] | None,
        scheduler: Mapping[str, Any] | None,
        monitor: str,
        mode: str,
        finetuning: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.finetuning = Finetuning.of(finetuning)
        self.came: Came | None = None
        self.start: dict[str, Tensor] = {}
        self.averaging: Averaging | None = None
        self.optimizer_config = dict(optimizer or OPTIMIZER)
        self.scheduler_config = dict(scheduler or SCHEDULER)
        self.objective = {"metric": monitor, "mode": mode}
        self._noted: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self.step_values: dict[str, Tensor] = {}
        names = loss_terms if self.evaluates_loss else ()
        self.mean_losses = MetricCollection(
            {name: MeanMetric(nan_strategy="disable") for name in names}  # NaN must show
        )

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """See Lightning; pretrained weights are not fetched again, the checkpoint has its own.

        Unlike there, ``weights_only`` is true unless said otherwise: a checkpoint runs no code.

        Raises:
            UserError: under ``weights_only``, it holds more than weights and settings; or an
                argument that it has kept names code from outside of this project, which is run only
                where the caller gives that argument by name.
        """
        if weights_only is not False:
            refuse_foreign(checkpoint_path, kept_arguments(checkpoint_path), nn.Module, kwargs)
        return super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )

    def configure_callbacks(self) -> list[Callback]:
        """What puts averaged or interpolated weights in, where ``finetuning`` asks for it."""
        if self.averaging is None and self.finetuning.averages:
            self.averaging = Averaging(self.objective["metric"], self.objective["mode"])
        return [] if self.averaging is None else [self.averaging]

    def as_validated(self) -> AbstractContextManager[None]:
        """The weights that are validated and kept are in the network while this lasts, which need
        not be those that train."""
        return nullcontext() if self.averaging is None else self.averaging.put_in(self)

    def setup(self, stage: str) -> None:
        """Keep the weights that came with the run, where ``finetuning`` goes back to them.

        Raises:
            UserError: none came.
        """
        key = "l2_sp" if self.finetuning.l2_sp else "interpolate"
        if stage == "fit" and (self.finetuning.l2_sp or self.finetuning.shares):
            drawn: Came = "backbone" if self.hparams.get("pretrained") else "nothing"
            self.start = weights_that_came(self.network, self.came or drawn, key)

    def on_train_start(self) -> None:
        """The weights that came go where the others are."""
        self.start = {name: value.to(self.device) for name, value in self.start.items()}

    def prepare(self, batch: Mapping[str, Any], *, targets: bool = True) -> Batch:
        """A batch as the steps take it: as it is from our DataModules, from any other loader with
        its images normalised and its targets checked.

        Args:
            batch: see the task's class.
            targets: False: the images alone are needed.

        Raises:
            UserError: see `prepare_targets`.
        """
        if isinstance(batch, Batch):
            return batch
        images = checked_images(batch, self.device)
        return Batch(image=images, **(self.prepare_targets(batch, images) if targets else {}))

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Outputs and loss terms; under mixup the terms are mixed as the images were.

        Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
        """
        outputs = self(batch["image"])
        terms = self.loss_terms(outputs, batch)
        if "mix_index" not in batch:
            return outputs, terms
        partners = Batch(
            {
                key: value[batch["mix_index"]] if key not in _OF_THE_BATCH else value
                for key, value in batch.items()
            }
        )
        mixed, share = self.loss_terms(outputs, partners), batch["mix_lambda"]
        return outputs, {k: share * terms[k] + (1 - share) * mixed[k] for k in terms}

    def configure_optimizers(self) -> Any:
        """As ``optimizer`` and ``scheduler`` say."""
        groups = self.parameter_groups()
        if self.finetuning.has_rates:
            groups = self.finetuning.groups(groups, self.network, self.optimizer_config)
        optimizer = build_optimizer(self.optimizer_config, groups)
        schedulers = build_schedulers(
            self.scheduler_config,
            optimizer,
            total_steps=int(self.trainer.estimated_stepping_batches),
            epoch_steps=self._epoch_steps(),
            objective=self.objective,
        )
        return [optimizer], schedulers

    def _epoch_steps(self) -> int:
        """Of the optimizer; of a loader without an end, those of the whole training."""
        self.trainer.fit_loop.setup_data()  # which Lightning does a moment later otherwise
        batches = self.trainer.num_training_batches
        if math.isinf(batches):
            return max(int(self.trainer.estimated_stepping_batches), 1)
        return max(math.ceil(batches / self.trainer.accumulate_grad_batches), 1)

    def on_train_epoch_start(self) -> None:
        """What an epoch that was cut short has noted is no part of this one; the first epochs may
        leave the backbone as it is."""
        self._noted.clear()
        if self.finetuning.freeze_epochs:
            self.finetuning.freeze(self.network, self.current_epoch)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step after each batch; `on_train_epoch_end` steps the ones that go by a metric."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; show a metric to the schedules that wait for one.

        Lightning does the latter after it has written the epoch's checkpoint, so that a resumed run
        would have missed a step.
        """
        self.log_noted()
        if (self.current_epoch + 1) % (self.trainer.check_val_every_n_epoch or 1):
            return  # nothing was validated, and an old value is no sign of a plateau
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self._monitored(str(config.monitor)))

    def _monitored(self, name: str) -> float:
        found = self.trainer.callback_metrics
        if name not in found:
            raise UserError(
                f"scheduler.monitor={name}: no such metric was logged; there are "
                + ", ".join(sorted(found))
            )
        return float(found[name])

    def _named_losses(self, stage: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = {name: value.detach() for name, value in terms.items()}
        values = {f"{stage}/loss": self.reported_loss(terms)}
        if len(terms) > 1:
            values |= {f"{stage}/loss/{name}": value for name, value in terms.items()}
        return values

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """One batch."""
        batch = self.prepare(batch)
        _, terms = self.losses(batch)
        self.note(self._named_losses("train", terms), len(batch["image"]))
        loss = self.total_loss(terms)
        if self.finetuning.l2_sp and (far := distance(self.network, self.start)) is not None:
            loss = loss + self.finetuning.l2_sp / 2 * far
        return loss

    def note(self, values: Mapping[str, Tensor], size: int) -> None:
        """Add a training batch's values to the means over images that its epoch will log.

        Lightning's ``log`` takes them too, for about a millisecond a value and step.
        """
        self.step_values.update(values)
        names, sums = tuple(values), torch.stack(list(values.values())).float() * size
        total, count = self._noted.get(names, (torch.zeros_like(sums), 0))
        self._noted[names] = total + sums, count + size

    def log_noted(self) -> None:
        """Log what was noted since the last call, over all ranks."""
        for names, (total, count) in self._noted.items():
            sums = torch.cat([total, total.new_tensor([count])])
            reduced = self.trainer.strategy.reduce(sums, reduce_op="sum")
            self.log_dict(dict(zip(names, reduced[:-1] / reduced[-1], strict=True)))
        self._noted.clear()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Loss and metrics of one batch."""
        self._evaluation_step(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Loss and metrics of one batch."""
        self._evaluation_step(batch)

    def _evaluation_step(self, batch: Mapping[str, Any]) -> None:
        batch = self.prepare(batch)
        if len(batch["image"]):  # else a rank without rows, see `BatchSchedule`
            self.evaluate(batch)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int = 0) -> dict[str, Any]:
        """What is found in the images of a batch, which needs no targets; see `deployed`."""
        return self.deployed(self.prepare(batch, targets=False)["image"])

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Update loss and metrics with a batch; the outputs."""
        outputs, terms = self.losses(batch)
        for name, term in terms.items():  # once per image: without a NaN strategy, `MeanMetric`
            self.mean_losses[name].update(term.expand(len(batch["image"])))  # ignores weights
        self.update_metrics(outputs, batch)
        return outputs

    def epoch_metrics(self, stage: str, prefix: str | None = None) -> Scores:
        """Compute and reset loss and metrics of a split.

        Args:
            stage: see `compute_metrics`.
            prefix: of their names; None: the stage.
        """
        prefix = prefix or stage
        # Every rank computes, also one whose shard is empty: metrics gather from all of them.
        losses: dict[str, Tensor] = {}
        if self.evaluates_loss:
            losses = self._named_losses(prefix, self.mean_losses.compute())
            self.mean_losses.reset()
        found = {name: float(value) for name, value in losses.items()}
        metrics = self.compute_metrics(stage)
        return found | {f"{prefix}/{name}": value for name, value in metrics.items()}

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole split."""
        self.log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Metrics of the whole split."""
        self.log_metrics("test")

    def log_metrics(self, stage: str) -> None:
        """Log loss and metrics of the split that was evaluated."""
        found = self.epoch_metrics(stage)
        self.log_dict({name: torch.tensor(value) for name, value in found.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Whoever loads it has the weights: none are to be fetched."""
        if self.averaging is not None:
            self.averaging.keep(self, checkpoint)
        arguments = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if arguments.get("pretrained"):
            kept = {**arguments, "pretrained": LATER}
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = kept


def defined(value: Tensor | float) -> float:
    """A metric that torchmetrics calls -1 where it is undefined: NaN, which never wins."""
    number = float(value)
    return math.nan if number == -1 else number
