"""Single-object localization as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from localization.baselines import baselines, trivial_boxes
from localization.figures import (
    examples_figure,
    iou_bands,
    iou_by_border,
    iou_by_size,
    iou_histogram,
    make_example,
)
from localization.losses import make_loss
from localization.metrics import THRESHOLDS, BoxIoU, paired_iou
from localization.networks import LocalizationNetwork, boxes_from_corners, cut_to_image
from localization.targets import box_targets
from phasewise.analysis.items import Items, mean
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.records.notes import Shares
from phasewise.training.module import Scores, TaskModule


class LocalizationModule(TaskModule):
    """A network that puts one box around the one object of an image.

    A batch is a dict of

    - ``image``: RGB (B, 3, S, S), uint8, or float from 0 to 1;
    - ``box``: (B, 4), x1, y1, x2, y2 in pixels of these images: 0 <= x1 < x2 <= S, likewise y. Four
      NaNs: this image has no object; it counts neither for the loss nor for the metrics.

    It logs ``train/loss``, ``val/loss`` and the metrics of `localization.metrics`.

    Args:
        image_size: side S of the images in pixels, a multiple of 32; convolutional backbones take
            other multiples as well.
        class_names: of the background and of what is in the boxes; the network does not tell
            classes apart.
        backbone, pretrained, stride, head, hidden, box, activation, init_scheme, norm,
            dropout_rate, drop_path_rate: see `LocalizationNetwork`.
        loss: ``smooth_l1``, ``l1``, ``mse``, ``giou``, ``ciou``, and sums: ``smooth_l1_giou``,
            ``l1_giou``, ``smooth_l1_ciou``, ``l1_ciou``; or one of somebody's own, a mapping of
            ``_target_`` and its arguments, see `localization.losses.OwnLoss`.
        loss_box_weight, loss_iou_weight, loss_beta: see `LocalizationLoss`.
        optimizer, scheduler, finetuning, monitor, mode: see `TaskModule`.

    Raises:
        UserError: settings that do not go together, or a backbone that cannot be built.
        ValueError: an unknown head or loss, or a number out of its range.
    """

    network: LocalizationNetwork
    headline = ("IoU", "acc50", "acc75")

    def __init__(
        self,
        *,
        image_size: int = 64,
        class_names: Sequence[str] = ("background", "object"),
        backbone: str = "resnet18",
        pretrained: bool | str = False,
        stride: int = 8,
        head: str | Mapping[str, Any] = "points",
        hidden: int = 64,
        box: str = "bounded",
        activation: str = "native",
        init_scheme: str = "native",
        norm: str = "batch",
        dropout_rate: float = 0.1,
        drop_path_rate: float = 0.0,
        loss: str | Mapping[str, Any] = "smooth_l1_giou",
        loss_box_weight: float = 5.0,
        loss_iou_weight: float = 2.0,
        loss_beta: float = 0.1,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        finetuning: Mapping[str, Any] | None = None,
        monitor: str = "val/IoU",
        mode: str = "max",
    ) -> None:
        criterion = make_loss(
            loss, beta=loss_beta, box_weight=loss_box_weight, iou_weight=loss_iou_weight
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
        self.network = LocalizationNetwork(
            image_size,
            backbone=backbone,
            pretrained=pretrained,
            stride=stride,
            head=head,
            hidden=hidden,
            box=box,
            activation=activation,
            init_scheme=init_scheme,
            norm=norm,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
        )
        self.loss = criterion
        self.metric = BoxIoU()
        self._bands: dict[str, Shares] = {}

    def prepare_targets(self, batch: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
        """``boxes`` (B, 1, 4) and ``labels`` (B, 1), as our DataModules have them."""
        return box_targets(batch, images)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to ``boxes (B, 4)``, as fractions of the side; of raw
        coordinates also these as they are, ``coordinates (B, 4)``."""
        found = self.network(images)
        if self.hparams["box"] != "raw":
            return {"boxes": found}
        boxes = boxes_from_corners(found)
        return {"boxes": boxes if self.training else cut_to_image(boxes), "coordinates": found}

    def loss_terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, without their weights."""
        return self.loss(outputs["boxes"], *true_boxes(batch), outputs.get("coordinates"))

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.loss.weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def reported_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return self.total_loss(terms)

    def update_metrics(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metric with a batch."""
        self.metric.update(outputs["boxes"], *true_boxes(batch))

    def compute_metrics(self, stage: str) -> Scores:
        """Mean IoU, and the share of images with an IoU above .5 and .75."""
        found = self.metric.compute()
        self.metric.reset()
        return {name: float(value) for name, value in found.items()}

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """The mean box of the training split, a centred one, and a random one per image."""
        return baselines(data, split)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int = 0) -> dict[str, Tensor]:
        """``boxes`` (B, 4), x1, y1, x2, y2 in pixels of the images that were given; of a batch no
        more than ``image`` is needed."""
        images = self.prepare(batch, targets=False)["image"]
        return {"boxes": self(images)["boxes"] * images.shape[-1]}

    def together(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The mean box."""
        return {"boxes": torch.stack([each["boxes"].float() for each in outputs]).mean(0)}

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Row, IoU, and size of the true box and its distance from the nearest border, of each
        image that has one: float64 (n, 4)."""
        truth, valid = true_boxes(batch)
        iou = paired_iou(outputs["boxes"][valid], truth[valid])
        size = (truth[valid, 2:] - truth[valid, :2]).prod(1).sqrt()
        rows = batch["index"].to(valid.device)[valid]
        border = torch.cat([truth[valid, :2], 1 - truth[valid, 2:]], 1).amin(1).clamp(min=0)
        return torch.stack([part.cpu().double() for part in (rows, iou, size, border)], 1)

    def items(self, observed: Sequence[Tensor]) -> Items:
        """Images with their IoU, the square root of the true box's area and its distance from the
        nearest border."""
        rows, iou, size, border = torch.cat(list(observed)).numpy().T
        figures = {"IoU": iou} | {name: (iou > t).astype(float) for name, t in THRESHOLDS.items()}
        return Items(
            "images",
            rows.astype(int),
            {"IoU": iou, "true_size": size, "true_border": border},
            lambda weights: {name: mean(weights, values) for name, values in figures.items()},
        )

    def export_notes(self) -> dict[str, Any]:
        """What the boxes are."""
        return {"outputs": {"boxes": "x1, y1, x2, y2 of the object, as fractions of the side"}}

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """``boxes`` (B, 4) as fractions of the side; see `predict_step` for pixels."""
        return {"boxes": self(images)["boxes"]}

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images, the histogram of IoUs, IoU by size and by the distance
        from the border."""
        self.eval()
        names = data.splits.names[split]
        found: list[tuple[Tensor, ...]] = []
        for index in data.evaluated_rows(split).split(data.batch_size):
            batch = data.prepared(split, index, self.device)
            boxes, (truth, valid) = self(batch["image"])["boxes"], true_boxes(batch)
            found.append(tuple(part.cpu() for part in (index, boxes, truth, valid)))
        rows, boxes, truth, valid = (torch.cat(part) for part in zip(*found, strict=True))
        rows, boxes, truth = rows[valid], boxes[valid], truth[valid]
        ious = paired_iou(boxes, truth)
        order = ious.argsort(descending=True, stable=True).tolist()
        figures = {}
        for title, chosen in (("best", order[:count]), ("worst", order[::-1][:count])):
            examples = []
            for i in chosen:
                row = int(rows[i])
                (image,) = data.prepared(split, torch.tensor([row]), torch.device("cpu"))["image"]
                examples.append(make_example(names[row], image, truth[i], boxes[i]))
            figures[title] = examples_figure(f"{title} {split} images", examples)
        others = trivial_boxes(data, split, rows)
        trivial = {name: paired_iou(boxes, truth).numpy() for name, boxes in others.items()}
        means = {name: float(values.mean()) for name, values in trivial.items() if len(values)}
        figures["iou_histogram"] = iou_histogram(ious.numpy(), means, split)
        figures["iou_by_size"] = iou_by_size(ious.numpy(), truth.numpy())
        figures["iou_by_border"] = iou_by_border(ious.numpy(), truth.numpy(), data.image_size)
        if len(ious):
            self._bands[split] = iou_bands({"network": ious.numpy(), **trivial}, split)
        return figures

    def measured_shares(self) -> list[Shares]:
        """Images by their IoU."""
        return [*self._bands.values()]


def true_boxes(batch: Batch) -> tuple[Tensor, Tensor]:
    """The true boxes ``(B, 4)`` as fractions of the side, and where there is one ``(B,)``."""
    return batch["boxes"][:, 0] / batch["image"].shape[-1], batch["labels"][:, 0] > 0
