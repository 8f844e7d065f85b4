"""Single-object localization as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from localization.baselines import baselines
from localization.figures import examples_figure, iou_by_size, iou_histogram, make_example
from localization.losses import TERMS, LocalizationLoss
from localization.metrics import THRESHOLDS, BoxIoU, paired_iou
from localization.networks import LocalizationNetwork
from phasewise.analysis.items import Items, mean
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.module import Scores, TaskModule, defined

if TYPE_CHECKING:
    from localization.predict import LocalizationPredictor


class LocalizationModule(TaskModule):
    """A network that puts one box around the one object of an image.

    Args:
        config: the run's config, ``model``, ``loss`` and ``finetuning`` as in
            ``conf/task/localization.yaml``.
        data: a data module of `localization.data`, set up, or a checkpoint's ``info``.
    """

    network: LocalizationNetwork
    headline = ("IoU", "acc50", "acc75")

    def __init__(
        self, config: Mapping[str, Any], data: StoreDataModule | Mapping[str, Any]
    ) -> None:
        super().__init__(config, data)
        self.network = LocalizationNetwork(self.info["image_size"], **self.config["model"])
        self.loss = LocalizationLoss(**self.config["loss"])
        self.metric = BoxIoU()

    def describe(self, data: StoreDataModule) -> dict[str, Any]:
        """Class names and the side of the images in pixels."""
        return {"class_names": data.splits.class_names, "image_size": data.image_size}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to ``boxes (B, 4)``, as fractions of the side."""
        return {"boxes": self.network(images)}

    def loss_names(self) -> tuple[str, ...]:
        """The terms of the loss that was chosen."""
        return TERMS[self.config["loss"]["name"]]

    def terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, without their weights."""
        return self.loss(outputs["boxes"], *true_boxes(batch))

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.loss.weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def reported(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return self.total(terms)

    def score(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metric with a batch."""
        self.metric.update(outputs["boxes"], *true_boxes(batch))

    def scores(self, stage: str) -> Scores:
        """Mean IoU, and the share of images with an IoU above .5 and .75."""
        found = self.metric.compute()
        self.metric.reset()
        return {name: defined(value) for name, value in found.items()}

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """The mean box of the training split, a centred one, and a random one per image."""
        return baselines(data, split)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head, and the backbone's stages with learning rates of their own."""
        tuning = self.config["finetuning"]
        if tuning["backbone_lr_factor"] == tuning["layer_decay"] == 1:
            return super().parameter_groups()
        lr = self.config["optimizer"]["lr"]
        return self.network.groups(lr, tuning["backbone_lr_factor"], tuning["layer_decay"])

    def on_train_epoch_start(self) -> None:
        """The first epochs may train the head alone."""
        super().on_train_epoch_start()
        self.network.freeze_backbone(
            self.current_epoch < self.config["finetuning"]["freeze_epochs"]
        )

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Row, IoU, and size of the true box of each image that has one: float64 (n, 3)."""
        truth, valid = true_boxes(batch)
        iou = paired_iou(outputs["boxes"][valid], truth[valid])
        size = (truth[valid, 2:] - truth[valid, :2]).prod(1).sqrt()
        rows = batch["index"].to(valid.device)[valid]
        return torch.stack([part.cpu().double() for part in (rows, iou, size)], 1)

    def items(self, observed: Sequence[Tensor]) -> Items:
        """Images with their IoU and the square root of the true box's area."""
        rows, iou, size = torch.cat(list(observed)).numpy().T
        figures = {"IoU": iou} | {name: (iou > t).astype(float) for name, t in THRESHOLDS.items()}
        return Items(
            "images",
            rows.astype(int),
            {"IoU": iou, "true_size": size},
            lambda weights: {name: mean(weights, values) for name, values in figures.items()},
        )

    def export_notes(self) -> dict[str, Any]:
        """What the boxes are."""
        return {"outputs": {"boxes": "x1, y1, x2, y2 of the object, as fractions of the side"}}

    def predictor(self) -> type[LocalizationPredictor]:
        """See `localization.predict`."""
        from localization.predict import LocalizationPredictor

        return LocalizationPredictor

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images, the histogram of IoUs, IoU by size."""
        self.eval()
        names = data.splits.names[split]
        found: list[tuple[Tensor, ...]] = []
        for index in torch.arange(len(names)).split(data.batch_size):
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
        trivial = {name: scores["IoU"] for name, scores in self.baselines(data, split).items()}
        figures["iou_histogram"] = iou_histogram(ious.numpy(), trivial, split)
        figures["iou_by_size"] = iou_by_size(ious.numpy(), truth.numpy())
        return figures


def true_boxes(batch: Batch) -> tuple[Tensor, Tensor]:
    """The true boxes ``(B, 4)`` as fractions of the side, and where there is one ``(B,)``."""
    return batch["boxes"][:, 0] / batch["image"].shape[-1], batch["labels"][:, 0] > 0
