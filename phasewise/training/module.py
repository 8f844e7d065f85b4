"""The LightningModule that all tasks share: batches, optimizer, schedule, and what is logged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from phasewise.analysis.items import Items
from phasewise.config.trust import refuse_foreign
from phasewise.data.batch import Batch, checked_images
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.networks.backbones import LATER, build_backbone
from phasewise.records.notes import Notes, Shares
from phasewise.training.checkpoints import kept_arguments
from phasewise.training.optim import build_optimizer, build_schedulers

Scores = dict[str, float]

OPTIMIZER = {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 1e-4}
"""Where none is asked for."""

SCHEDULER = {"name": "none"}
"""Where none is asked for: a constant learning rate."""


class Embedding(NamedTuple):
    """Images in a space of features, for TensorBoard's projector.

    ``features`` (N, E); ``labels`` (N,), any text or number; ``images`` uint8 (N, 3, S, S).
    """

    features: Tensor
    labels: list[Any]
    images: Tensor


_OF_THE_BATCH = ("image", "mix_index", "mix_lambda")
"""What mixup leaves where it is: the blended images, and how they were blended."""


class TaskModule(L.LightningModule, ABC):
    """A network with its loss, its metrics and its trivial competitors.

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
        monitor: the metric that decides which weights are best, and that ``plateau`` watches.
        mode: whether more of it is better: ``max``, ``min``.

    Attributes:
        network: what other runs can start from.
        step_values: what the last training batch has noted, see `note`.
        evaluates_loss: whether validation and test images have a loss.
        headline: the metrics that the line of an epoch and the report's tables show, most telling
            first, without their split.
    """

    network: nn.Module
    evaluates_loss = True
    headline: tuple[str, ...] = ()

    def __init__(
        self,
        loss_terms: Sequence[str],
        *,
        optimizer: Mapping[str, Any] | None,
        scheduler: Mapping[str, Any] | None,
        monitor: str,
        mode: str,
    ) -> None:
        super().__init__()
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

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the network's outputs by name."""

    @abstractmethod
    def prepare_targets(self, batch: Mapping[str, Any], images: Tensor) -> dict[str, Any]:
        """What the steps need of a user's own batch besides the images, on their device.

        Args:
            batch: what the loader yielded.
            images: normalised (B, 3, S, S).

        Raises:
            UserError: a key is missing or has another shape or type, in one line.
        """

    @abstractmethod
    def loss_terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The loss terms by name."""

    @abstractmethod
    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """What is minimised."""

    @abstractmethod
    def reported_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """What ``train/loss`` and ``val/loss`` report, linear in the terms and comparable between
        runs."""

    @abstractmethod
    def update_metrics(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics with a batch."""

    @abstractmethod
    def compute_metrics(self, stage: str) -> Scores:
        """Compute and reset the metrics of ``val``, ``test`` or, where `training_metrics` asks for
        it, ``train``; undefined ones are NaN."""

    def training_rows(self, data: StoreDataModule, count: int) -> dict[str, Tensor]:
        """Which training images ``trainer.train_metrics`` measures: evenly spread over the split.

        Args:
            data: with what it was trained.
            count: about how many, > 0.

        Returns:
            ``row`` (N,), of the training split; what stands beside it, each (N, ...), replaces or
            completes what the batches hold.
        """
        there = data.schedule("train").count
        return {"row": torch.linspace(0, there - 1, min(count, there)).round().long()}

    def training_metrics(self, evaluated: Iterable[tuple[dict[str, Tensor], Batch]]) -> Scores:
        """Metrics of training images, by the names of validation.

        Args:
            evaluated: outputs and batches, of this rank; all ranks call it.
        """
        for outputs, batch in evaluated:
            self.update_metrics(outputs, batch)
        return self.compute_metrics("train")

    @abstractmethod
    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """What trivial predictors score on a split, by the same metrics."""

    @abstractmethod
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """Figures by name: the ``count`` best and worst images of a split, and the task's own."""

    def embedding(self) -> Embedding | None:
        """What TensorBoard's projector shows, known after `draw`; None for tasks without one."""
        return None

    def accept(self, data: StoreDataModule) -> None:
        """Get ready to be evaluated on data that it was perhaps not trained with.

        Raises:
            UserError: they have other classes.
        """
        known, there = list(self.hparams["class_names"]), data.splits.class_names
        if known != there:
            raise UserError(
                f"the data have the classes {', '.join(there)}, but the network was trained for "
                f"{', '.join(known)}, in this order; a labels.txt or the like can give it"
            )

    def join(self, members: Sequence[Self]) -> None:
        """Get ready to speak for several networks, of which this is the first: what was fitted to
        validation data beside the weights, such as a threshold, becomes that of all."""

    def together(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What several networks found in the same images, as the outputs of one.

        Args:
            outputs: of each, as `losses` gives them in evaluation.

        Returns:
            What `update_metrics` and `observe` take; no loss need follow from it.

        Raises:
            UserError: networks of this task cannot be one.
        """
        raise UserError(f"{type(self).__name__} does not say how several networks count as one")

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Any:
        """What `items` is to know of a batch, where the metrics do not."""

    def items(self, observed: Sequence[Any]) -> Items | None:
        """Scores of single items of the split that was evaluated, before `epoch_metrics` forgets
        it.

        Args:
            observed: of all batches, see `observe`.

        Returns:
            None for tasks without; their metrics have no confidence intervals.
        """
        return None

    def compare_masks_at(self, side: int, image_size: int) -> None:
        """From now on compare masks at another size than that of the images, in metrics and items.

        Args:
            side: in pixels.
            image_size: side of the images in pixels.

        Raises:
            UserError: ``side`` is no size for them, or the task has no masks to compare.
        """
        raise UserError(f"mask_size={side}: there are no masks that this task compares alone")

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """What an exported network computes: normalised images ``(B, 3, S, S)`` to outputs by name.

        It can be traced: no step depends on values.
        """
        return self(images)

    def export_notes(self) -> dict[str, Any]:
        """What users of an exported network must know, as plain containers: the meaning of its
        ``outputs`` by name, thresholds and the like."""
        return {"outputs": {}}

    def receptive_field(self) -> int | None:
        """The side in pixels of what an output can depend on, see
        `phasewise.networks.receptive_field`; None where a task does not ask, or it cannot be
        told."""
        return None

    @classmethod
    def fetch_weights(cls, backbone: str, image_size: int, pretrained: bool | str) -> None:
        """Download the weights of a backbone (``study.fetch=true``), and see that they fit.

        Args: see `build_backbone`.
        """
        build_backbone(backbone, image_size, pretrained)

    def report_notes(self) -> Notes:
        """What reports are to say of this task besides what they say of every one."""
        return Notes()

    def measured_shares(self) -> Sequence[Shares]:
        """What reports are to show of the splits that `draw` was asked for, with the weights of
        then."""
        return ()

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

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer trains, in torch's form; a task may set options per group."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """As ``optimizer`` and ``scheduler`` say."""
        optimizer = build_optimizer(self.optimizer_config, self.parameter_groups())
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
        """What an epoch that was cut short has noted is no part of this one."""
        self._noted.clear()

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
        return self.total_loss(terms)

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
        arguments = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if arguments.get("pretrained"):
            kept = {**arguments, "pretrained": LATER}
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = kept


def defined(value: Tensor | float) -> float:
    """A metric that torchmetrics calls -1 where it is undefined: NaN, which never wins."""
    number = float(value)
    return math.nan if number == -1 else number
