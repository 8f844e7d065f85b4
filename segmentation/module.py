"""Binary segmentation as a LightningModule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from phasewise.analysis.items import Items
from phasewise.data.batch import Batch, tensor_entry
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.inference.prediction.maps import mean_map
from phasewise.records.notes import Notes, Shares
from phasewise.training.module import Scores, TaskModule
from segmentation.baselines import baselines
from segmentation.figures import (
    counts_figure,
    examples_figure,
    image_jaccard,
    make_example,
    precision_recall_figure,
)
from segmentation.items import Seen, make_items, observe
from segmentation.losses import VOID, SegmentationLoss, loss_diagram, make_loss
from segmentation.metrics import SegmentationScores
from segmentation.networks import SegmentationNetwork
from segmentation.nnunet import supervision_weights
from segmentation.objects import split_objects
from segmentation.references import loss_references
from segmentation.shares import GradientShares, boundary_width

DEEP = "deep/"
"""How the losses of coarser maps are called, before their step in pixels."""


class SegmentationModule(TaskModule):
    """A network that tells foreground from background, and counts what is in the foreground.

    The threshold of the foreground is chosen on validation data each epoch and kept with the
    weights, so that the test split is judged by the one that belongs to the best epoch.

    A batch is a dict of

    - ``image``: RGB (B, 3, S, S), uint8, or float from 0 to 1;
    - ``mask``: (B, S, S), 0 background, 1 foreground (255: neither counts), integer or bool;
    - ``instances``, optional, in evaluation: integer (B, S, S), the objects of each image numbered
      from 1, 0 = none; without it they are formed of the mask, as the predicted ones are.

    It logs ``train/loss``, ``val/loss`` and the metrics of `segmentation.metrics`.

    Args:
        image_size: side S of the images in pixels; most networks take other multiples of their
            step as well, see `SegmentationNetwork`.
        class_names: of background and foreground.
        min_area: objects of fewer pixels are not counted.
        min_distance: least distance of the centres of touching objects in pixels.
        architecture, backbone, pretrained, in_channels, width, depth, activation, init_scheme,
            norm, norm_momentum, dropout_rate, dropout_type, drop_path_rate, head_norm: see
            `SegmentationNetwork`.
        loss: ``dice``, ``focal``, ``combined``, ``bce``, ``dice_bce``, ``tversky``; or one of
            somebody's own, a mapping of ``_target_`` and its arguments, see
            `segmentation.losses.OwnLoss`.
        loss_dice_weight, loss_schedule_epochs, loss_pos_alpha, loss_gamma, loss_fp_weight,
            loss_fn_weight, loss_smooth, loss_reduce: see `SegmentationLoss`.
        evaluation_threshold: what counts as foreground: ``auto``, the best Jaccard index on
            validation data, or a probability in (0, 1).
        evaluation_objects: count objects and match them with the true ones.
        optimizer, scheduler, finetuning, monitor, mode: see `TaskModule`.

    Raises:
        UserError: settings that do not go together.
    """

    network: SegmentationNetwork
    headline = ("jaccard", "dice", "soft_jaccard", "object_f1")

    def __init__(
        self,
        *,
        image_size: int = 128,
        class_names: Sequence[str] = ("background", "foreground"),
        min_area: int = 8,
        min_distance: int = 3,
        architecture: str | Mapping[str, Any] = "unet",
        backbone: str | None = None,
        pretrained: bool | str = False,
        in_channels: int = 3,
        width: int = 16,
        depth: int | None = None,
        activation: str = "native",
        init_scheme: str = "native",
        norm: str = "batch",
        norm_momentum: float = 0.1,
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dropout_type: str = "element",
        head_norm: bool = False,
        loss: str | Mapping[str, Any] = "combined",
        loss_dice_weight: float = 0.7,
        loss_schedule_epochs: int = 0,
        loss_pos_alpha: float = 0.25,
        loss_gamma: float = 2.0,
        loss_fp_weight: float = 0.3,
        loss_fn_weight: float = 0.7,
        loss_smooth: float = 1.0,
        loss_reduce: str = "batch",
        evaluation_threshold: str | float = "auto",
        evaluation_objects: bool = True,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        finetuning: Mapping[str, Any] | None = None,
        monitor: str = "val/jaccard",
        mode: str = "max",
    ) -> None:
        criterion = make_loss(
            loss,
            dice_weight=loss_dice_weight,
            schedule_epochs=loss_schedule_epochs,
            pos_alpha=loss_pos_alpha,
            gamma=loss_gamma,
            fp_weight=loss_fp_weight,
            fn_weight=loss_fn_weight,
            smooth=loss_smooth,
            reduce=loss_reduce,
        )
        super().__init__(
            criterion.names,
            optimizer=optimizer,
            scheduler=scheduler,
            finetuning=finetuning,
            monitor=monitor,
            mode=mode,
        )
        self.save_hyperparameters(logger=False)
        self.network = SegmentationNetwork(
            image_size,
            architecture=architecture,
            backbone=backbone,
            pretrained=pretrained,
            in_channels=in_channels,
            width=width,
            depth=depth,
            activation=activation,
            init_scheme=init_scheme,
            norm=norm,
            norm_momentum=norm_momentum,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
            dropout_type=dropout_type,
            head_norm=head_norm,
        )
        self.loss = criterion
        self.metrics = self._make_scores()
        self._shares: list[Shares] = []
        self._step = 1

    def _make_scores(self, *, objects: bool = True, step: int = 1) -> SegmentationScores:
        """Of masks whose pixels are of ``step`` pixels of the images each way."""
        return SegmentationScores(
            self.hparams["evaluation_threshold"],
            objects=objects and self.hparams["evaluation_objects"],
            min_area=max(1, round(self.hparams["min_area"] / step**2)),
            min_distance=max(1, round(self.hparams["min_distance"] / step)),
        )

    def compare_masks_at(self, side: int, image_size: int) -> None:
        """Also: a coarser pixel's probability is the mean of those within; of true masks it is the
        value at its centre, as if they had been resized. Objects are smaller by as much.

        Raises:
            UserError: ``side`` does not divide ``image_size``.
        """
        if image_size % side:
            raise UserError(f"mask_size={side}: does not divide data.image_size={image_size}")
        self._step = image_size // side
        scores = self._make_scores(step=self._step).to(self.device)
        scores.threshold.copy_(self.metrics.threshold)
        self.metrics = scores

    def _compared(self, outputs: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Batch]:
        """Probabilities and the batch at the size at which masks are compared."""
        probabilities, step = outputs["logits"].float().sigmoid(), self._step
        if step == 1:
            return probabilities, batch
        within = slice(step // 2, None, step)
        masks = {
            key: batch[key][:, within, within] for key in ("mask", "instances") if key in batch
        }
        return F.avg_pool2d(probabilities, step), Batch({**batch, **masks})

    def receptive_field(self) -> int | None:
        """See `SegmentationNetwork.receptive_field`."""
        return self.network.receptive_field()

    def setup(self, stage: str) -> None:
        """See whether the network takes all sizes that the data will have.

        Raises:
            UserError: it does not.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, StoreDataModule):
            self.network.check_sizes(data.train_sizes())

    def prepare_targets(self, batch: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
        """``mask``, and ``instances`` where they are known."""
        shape = (len(images), *images.shape[-2:])
        meaning = "(B, S, S), 0 background, 1 foreground, 255 void"
        mask = tensor_entry(batch, "mask", shape, meaning).to(images.device)
        if mask.is_floating_point() or mask.is_complex():
            raise UserError(f"batch['mask'] is of {mask.dtype}; integers are wanted: {meaning}")
        mask = mask.long()
        if other := sorted({*mask.unique().tolist()} - {0, 1, VOID}):
            raise UserError(f"batch['mask'] holds {other[0]}; wanted is {meaning}")
        targets = {"mask": mask}
        if "instances" in batch:
            meaning = "(B, S, S), objects numbered from 1, 0 = none"
            targets["instances"] = tensor_entry(batch, "instances", shape, meaning).to(mask)
        elif not self.training and self.hparams["evaluation_objects"]:
            settings = {key: self.hparams[key] for key in ("min_area", "min_distance")}
            objects = [split_objects(one, **settings) for one in (mask == 1).cpu().numpy()]
            targets["instances"] = torch.from_numpy(np.stack(objects)).to(images.device)
        return targets

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to ``logits (B, S, S)``; in training, of a network
        with deep supervision, also ``logits/2``, ``logits/4``, ... of coarser maps."""
        logits = self.network(images)
        if isinstance(logits, Tensor):
            return {"logits": logits}
        coarser = {f"logits/{2**level}": scale for level, scale in enumerate(logits) if level}
        return {"logits": logits[0], **coarser}

    def loss_terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, without their weights; under deep supervision also the losses of
        coarser maps, ``deep/2``, ``deep/4``, ..., each under the weights of this epoch."""
        terms = self.loss(outputs["logits"], batch["mask"])
        weights = self.loss.weights(self.current_epoch) if len(outputs) > 1 else {}
        for name, logits in outputs.items():
            if name != "logits":
                step = int(name.removeprefix("logits/"))
                mask = batch["mask"][:, step // 2 :: step, step // 2 :: step]  # their centres
                terms[f"{DEEP}{step}"] = _weighted(self.loss(logits, mask), weights)
        return terms

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms under the weights of this epoch; under deep supervision, the mean over scales,
        see `segmentation.nnunet.supervision_weights`."""
        scales = [_weighted(terms, self.loss.weights(self.current_epoch))]
        scales += [term for name, term in terms.items() if name.startswith(DEEP)]
        if len(scales) == 1:
            return scales[0]
        shares = supervision_weights(len(scales))
        return torch.stack([share * loss for share, loss in zip(shares, scales, strict=True)]).sum()

    def reported_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms under the final weights, whatever the epoch, at full resolution."""
        return _weighted(terms, self.loss.weights())

    def update_metrics(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics with a batch."""
        probabilities, batch = self._compared(outputs, batch)
        self.metrics.update(probabilities, batch["mask"], batch.get("instances"))

    def compute_metrics(self, stage: str) -> Scores:
        """See `SegmentationScores.compute`; validation chooses the threshold."""
        found = self.metrics.compute(choose=stage == "val")
        self.metrics.reset()
        return found

    def training_metrics(self, evaluated: Iterable[tuple[dict[str, Tensor], Batch]]) -> Scores:
        """At the threshold of validation; without objects, which training does not have."""
        metrics = self._make_scores(objects=False).to(self.device)
        metrics.threshold.copy_(self.metrics.threshold)
        for outputs, batch in evaluated:
            metrics.update(outputs["logits"].float().sigmoid(), batch["mask"])
        return metrics.compute(choose=False)

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """Everything foreground, nothing, and each image's Otsu threshold."""
        return baselines(data, split, self._make_scores)

    def join(self, members: Sequence[Self]) -> None:
        """The mean threshold."""
        thresholds = torch.stack([member.metrics.threshold for member in members])
        self.metrics.threshold.copy_(thresholds.mean())

    def together(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The mean probability, as a logit."""
        mean = mean_map([each["logits"].float().sigmoid() for each in outputs])
        return {"logits": mean.logit()}

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Seen:
        """See `segmentation.items`."""
        return observe(self.metrics, *self._compared(outputs, batch))

    def items(self, observed: Sequence[Seen]) -> Items:
        """Images with their Dice, Jaccard, precision, recall and objects."""
        return make_items(observed, float(self.metrics.threshold))

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """``probabilities (B, S, S)`` of the foreground."""
        return {"probabilities": self(images)["logits"].float().sigmoid()}

    def export_notes(self) -> dict[str, Any]:
        """What a probability is of, and from which one on a pixel is foreground."""
        return {
            "outputs": {"probabilities": "of the foreground, of each pixel"},
            "threshold": float(self.metrics.threshold),
        }

    def report_notes(self) -> Notes:
        """How the loss behaves, if it is one of the project's, and those to compare it with."""
        loss = self.loss
        references = loss_references(loss)
        if not isinstance(loss, SegmentationLoss):
            return Notes(references=references)
        ratios = ("train/loss", "val/loss") if loss.is_of_batches else ()
        return Notes(diagrams=(loss_diagram(loss),), references=references, batch_losses=ratios)

    def measured_shares(self) -> list[Shares]:
        """Which pixels the gradient of validation data comes from."""
        return self._shares

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images, precision and recall, counts of objects."""
        self.eval()
        ranked, metrics = self._rank(data, split)
        names, figures = data.splits.names[split], {}
        for title, rows in (("best", ranked[:count]), ("worst", ranked[::-1][:count])):
            examples = []
            for row in rows:
                batch, logits = self._predict(data, split, torch.tensor([row]))
                mask = logits[0].sigmoid() >= metrics.threshold
                examples.append(make_example(names[row], batch["image"][0], batch["mask"][0], mask))
            figures[title] = examples_figure(f"{title} {split} images", examples)
        threshold = float(metrics.threshold)
        figures["precision_recall"] = precision_recall_figure(metrics.histogram, threshold, split)
        if self.hparams["evaluation_objects"]:
            figures["counts"] = counts_figure(metrics.counts, split)
        return figures

    def _predict(self, data: StoreDataModule, split: str, index: Tensor) -> tuple[Batch, Tensor]:
        """A batch and its float32 logits (B, S, S)."""
        batch = data.prepared(split, index, self.device)
        return batch, self(batch["image"])["logits"].float()

    def _rank(self, data: StoreDataModule, split: str) -> tuple[list[int], SegmentationScores]:
        """The rows of all images, best Jaccard first, and the metrics over them."""
        metrics = self._make_scores().to(self.device)
        metrics.threshold.copy_(self.metrics.threshold)
        scored = []
        gradients = None
        if split == "val":
            gradients = GradientShares(self.loss, boundary_width(data.image_size))
        for index in data.evaluated_rows(split).split(data.batch_size):
            batch, logits = self._predict(data, split, index)
            probabilities = logits.sigmoid()
            if gradients is not None:
                gradients.update(logits, batch["mask"])
            metrics.update(probabilities, batch["mask"], batch.get("instances"))
            scores = image_jaccard(probabilities >= metrics.threshold, batch["mask"])
            scored += list(zip(scores.tolist(), index.tolist(), strict=True))
        if gradients is not None:
            self._shares = gradients.shares()
        metrics.compute(choose=False, sync=False)  # the first of several devices is alone here
        return [row for _, row in sorted(scored, key=lambda pair: (-pair[0], pair[1]))], metrics


def _weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
