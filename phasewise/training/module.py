"""The LightningModule that all tasks share: optimizer, schedule, and how numbers are logged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from phasewise.analysis.items import Items
from phasewise.data.datamodule import Batch, StoreDataModule
from phasewise.data.seeding import derive, seed_torch
from phasewise.errors import UserError
from phasewise.training.optim import build_optimizer, build_schedulers

if TYPE_CHECKING:
    from phasewise.inference.prediction.predictor import Predictor

Scores = dict[str, float]


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

    Args:
        config: the run's config as plain containers; checkpoints carry it.
        data: the data, already set up; what the network must know of it is kept in ``info``. Or the
            ``info`` of a checkpoint, for a network that is used without its data.

    Attributes:
        network: what other runs can start from.
        evaluates_loss: whether validation and test images have a loss.
        headline: the metrics that the line of an epoch shows.
    """

    network: nn.Module
    evaluates_loss = True
    headline: tuple[str, ...] = ()

    def __init__(
        self, config: Mapping[str, Any], data: StoreDataModule | Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.config = dict(config)
        self.info = dict(data) if isinstance(data, Mapping) else self.describe(data)
        self._noted: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        names = self.loss_names() if self.evaluates_loss else ()
        self.mean_losses = MetricCollection(
            {name: MeanMetric(nan_strategy="disable") for name in names}  # NaN must show
        )

    @abstractmethod
    def describe(self, data: StoreDataModule) -> dict[str, Any]:
        """What a checkpoint must know of the data to be used without it, as plain containers."""

    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """The names of the loss terms."""

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the network's outputs by name."""

    @abstractmethod
    def terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The loss terms by name."""

    @abstractmethod
    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """What is minimised."""

    @abstractmethod
    def reported(self, terms: dict[str, Tensor]) -> Tensor:
        """What ``train/loss`` and ``val/loss`` report, linear in the terms and comparable between
        runs."""

    @abstractmethod
    def score(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics with a batch."""

    @abstractmethod
    def scores(self, stage: str) -> Scores:
        """Compute and reset the metrics of ``val`` or ``test``; undefined ones are NaN."""

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
        known, there = self.info["class_names"], data.splits.class_names
        if known != there:
            raise UserError(
                f"the data have the classes {', '.join(there)}, but the network was trained for "
                f"{', '.join(known)}, in this order; a labels.txt or the like can give it"
            )

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Any:
        """What `items` is to know of a batch, where the metrics do not."""

    def items(self, observed: Sequence[Any]) -> Items | None:
        """Scores of single items of the split that was evaluated, before `results` forgets it.

        Args:
            observed: of all batches, see `observe`.

        Returns:
            None for tasks without; their figures have no confidence intervals.
        """
        return None

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """What an exported network computes: normalised images ``(B, 3, S, S)`` to outputs by name.

        It can be traced: no step depends on values.
        """
        return self(images)

    def export_notes(self) -> dict[str, Any]:
        """What users of an exported network must know, as plain containers: the meaning of its
        ``outputs`` by name, thresholds and the like."""
        return {"outputs": {}}

    def predictor(self) -> type[Predictor]:
        """What applies such networks to images of any size, for ``predict.py``.

        Raises:
            UserError: the task has none.
        """
        raise UserError(f"task={self.config['task']['name']} makes no predictions of images")

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Outputs and loss terms; under mixup the terms are mixed as the images were.

        Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
        """
        outputs = self(batch["image"])
        terms = self.terms(outputs, batch)
        if "mix_index" not in batch:
            return outputs, terms
        partners = {
            key: value[batch["mix_index"]] if key not in _OF_THE_BATCH else value
            for key, value in batch.items()
        }
        mixed, share = self.terms(outputs, partners), batch["mix_lambda"]
        return outputs, {k: share * terms[k] + (1 - share) * mixed[k] for k in terms}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer trains, in torch's form; a task may set options per group."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """As ``optimizer`` and ``scheduler`` of the config say."""
        optimizer = build_optimizer(self.config["optimizer"], self.parameter_groups())
        schedulers = build_schedulers(
            self.config["scheduler"],
            optimizer,
            total_steps=int(self.trainer.estimated_stepping_batches),
            epochs=self.config["trainer"]["max_epochs"],
            objective=self.config["objective"],
        )
        return [optimizer], schedulers

    def on_train_epoch_start(self) -> None:
        """What an epoch that was cut short has noted is no part of this one."""
        self._noted.clear()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout draws from torch's global generator: start it anew, so that resuming is exact."""
        place = self.current_epoch, batch_idx, self.global_rank
        seed_torch(derive(self.config["seed"], "step", *place), self.device)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step after each batch; `PlateauStep` has stepped the ones that go by a metric."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def _named_losses(self, stage: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = {name: value.detach() for name, value in terms.items()}
        values = {f"{stage}/loss": self.reported(terms)}
        if len(terms) > 1:
            values |= {f"{stage}/loss/{name}": value for name, value in terms.items()}
        return values

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch."""
        _, terms = self.losses(batch)
        self.note(self._named_losses("train", terms), len(batch["index"]))
        return self.total(terms)

    def note(self, values: Mapping[str, Tensor], size: int) -> None:
        """Add a training batch's values to the means over images that its epoch will log.

        Lightning's ``log`` takes them too, for about a millisecond a value and step.
        """
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

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and metrics of one batch."""
        if len(batch["index"]):  # else a rank without rows, see `BatchSchedule`
            self.evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and metrics of one batch."""
        if len(batch["index"]):
            self.evaluate(batch)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Update loss and metrics with a batch; the outputs."""
        outputs, terms = self.losses(batch)
        for name, term in terms.items():  # once per image: without a NaN strategy, `MeanMetric`
            self.mean_losses[name].update(term.expand(len(batch["index"])))  # ignores weights
        self.score(outputs, batch)
        return outputs

    def results(self, stage: str, prefix: str | None = None) -> Scores:
        """Compute and reset loss and metrics of a split.

        Args:
            stage: see `scores`.
            prefix: of their names; None: the stage.
        """
        prefix = prefix or stage
        # Every rank computes, also one whose shard is empty: metrics gather from all of them.
        losses: dict[str, Tensor] = {}
        if self.evaluates_loss:
            losses = self._named_losses(prefix, self.mean_losses.compute())
            self.mean_losses.reset()
        found = {name: float(value) for name, value in losses.items()}
        return found | {f"{prefix}/{name}": value for name, value in self.scores(stage).items()}

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole split."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Metrics of the whole split."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        found = self.results(stage)
        self.log_dict({name: torch.tensor(value) for name, value in found.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds plain containers only, so that it loads with ``weights_only``."""
        checkpoint["phasewise"] = {"config": self.config, "info": self.info}


def defined(value: Tensor | float) -> float:
    """A metric as a number: torchmetrics' -1 for undefined becomes NaN, which never wins."""
    number = float(value)
    return number if number >= 0 else math.nan
