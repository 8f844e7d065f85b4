"""What a task says of itself: what it must, and what it may."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from phasewise.analysis.items import Items
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.networks.backbones import build_backbone
from phasewise.records.notes import Notes, Shares

Scores = dict[str, float]


class Embedding(NamedTuple):
    """Images in a space of features, for TensorBoard's projector.

    ``features`` (N, E); ``labels`` (N,), any text or number; ``images`` uint8 (N, 3, S, S).
    """

    features: Tensor
    labels: list[Any]
    images: Tensor


class TaskContract(L.LightningModule, ABC):
    """What `phasewise.training.module.TaskModule` asks of a task.

    Attributes:
        network: what other runs can start from.
        evaluates_loss: whether validation and test images have a loss.
        works_untrained: whether its metrics mean something of a network that was not trained here,
            as those of features do; a head that was drawn at random finds nothing. Such a network
            is measured before training, as every one is that starts from another run.
        headline: the metrics that the line of an epoch and the report's tables show, most telling
            first, without their split.
    """

    network: nn.Module
    evaluates_loss = True
    works_untrained = False
    headline: tuple[str, ...] = ()

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
        """What trivial predictors score on a split, by the same metrics and on the same images: the
        rows that ``data.evaluated_rows`` gives."""

    @abstractmethod
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """Figures by name: the ``count`` best and worst images of a split, and the task's own; of
        the rows that ``data.evaluated_rows`` gives, which metrics are measured on."""

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

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer trains, in torch's form; a task may set options per group."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]
