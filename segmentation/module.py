"""Binary segmentation as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from phasewise.analysis.items import Items
from phasewise.data.datamodule import Batch, StoreDataModule
from phasewise.training.module import Scores, TaskModule
from segmentation.baselines import baselines
from segmentation.data import SegmentationData
from segmentation.figures import (
    counts_figure,
    examples_figure,
    image_jaccard,
    make_example,
    precision_recall_figure,
)
from segmentation.items import Seen, make_items, observe
from segmentation.losses import TERMS, SegmentationLoss
from segmentation.metrics import SegmentationScores
from segmentation.networks import SegmentationNetwork

if TYPE_CHECKING:
    from segmentation.predict import SegmentationPredictor


class SegmentationModule(TaskModule):
    """A network that tells foreground from background, and counts what is in the foreground.

    The threshold of the foreground is chosen on validation data each epoch and kept with the
    weights, so that the test split is judged by the one that belongs to the best epoch.

    Args:
        config: the run's config, ``model``, ``loss`` and ``evaluation`` as in
            ``conf/task/segmentation.yaml``.
        data: a data module of `segmentation.data`, set up, or a checkpoint's ``info``.
    """

    network: SegmentationNetwork
    headline = ("jaccard", "dice", "object_f1")

    def __init__(
        self, config: Mapping[str, Any], data: StoreDataModule | Mapping[str, Any]
    ) -> None:
        super().__init__(config, data)
        self.network = SegmentationNetwork(self.info["image_size"], **self.config["model"])
        if isinstance(data, StoreDataModule):
            self.network.check_sizes(data.train_sizes())
        self.loss = SegmentationLoss(**self.config["loss"])
        self.metrics = self._make_scores()

    def _make_scores(self) -> SegmentationScores:
        evaluation, data = self.config["evaluation"], self.config["data"]
        return SegmentationScores(
            evaluation["threshold"],
            objects=evaluation["objects"],
            min_area=data["min_area"],
            min_distance=data["min_distance"],
        )

    def describe(self, data: StoreDataModule) -> dict[str, Any]:
        """Class names, the side of the images in pixels, the bits of 16-bit grey ones."""
        assert isinstance(data, SegmentationData)
        return {
            "class_names": data.splits.class_names,
            "image_size": data.image_size,
            "grey_bits": data.grey_bits,
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to ``logits (B, S, S)``."""
        return {"logits": self.network(images)}

    def loss_names(self) -> tuple[str, ...]:
        """The terms of the loss that was chosen."""
        return TERMS[self.config["loss"]["name"]]

    def terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, without their weights."""
        return self.loss(outputs["logits"], batch["mask"])

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms under the weights of this epoch."""
        return _weighted(terms, self.loss.weights(self.current_epoch))

    def reported(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms under the final weights, whatever the epoch."""
        return _weighted(terms, self.loss.weights())

    def score(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics with a batch."""
        probabilities = outputs["logits"].float().sigmoid()
        self.metrics.update(probabilities, batch["mask"], batch.get("instances"))

    def scores(self, stage: str) -> Scores:
        """See `SegmentationScores.compute`; validation chooses the threshold."""
        found = self.metrics.compute(choose=stage == "val")
        self.metrics.reset()
        return found

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """Everything foreground, nothing, and each image's Otsu threshold."""
        return baselines(data, split, self._make_scores)

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> Seen:
        """See `segmentation.items`."""
        return observe(self.metrics, outputs["logits"].float().sigmoid(), batch)

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

    def predictor(self) -> type[SegmentationPredictor]:
        """See `segmentation.predict`."""
        from segmentation.predict import SegmentationPredictor

        return SegmentationPredictor

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images, precision and recall, counts of objects."""
        self.eval()
        ranked, metrics = self._rank(data, split)
        names, figures = data.splits.names[split], {}
        for title, rows in (("best", ranked[:count]), ("worst", ranked[::-1][:count])):
            examples = []
            for row in rows:
                batch, probabilities = self._predict(data, split, torch.tensor([row]))
                mask = probabilities[0] >= metrics.threshold
                examples.append(make_example(names[row], batch["image"][0], batch["mask"][0], mask))
            figures[title] = examples_figure(f"{title} {split} images", examples)
        threshold = float(metrics.threshold)
        figures["precision_recall"] = precision_recall_figure(metrics.histogram, threshold, split)
        if self.config["evaluation"]["objects"]:
            figures["counts"] = counts_figure(metrics.counts, split)
        return figures

    def _predict(self, data: StoreDataModule, split: str, index: Tensor) -> tuple[Batch, Tensor]:
        """A batch and the probabilities (B, S, S) of its foreground."""
        batch = data.prepared(split, index, self.device)
        return batch, self(batch["image"])["logits"].float().sigmoid()

    def _rank(self, data: StoreDataModule, split: str) -> tuple[list[int], SegmentationScores]:
        """The rows of all images, best Jaccard first, and the metrics over them."""
        metrics = self._make_scores().to(self.device)
        metrics.threshold.copy_(self.metrics.threshold)
        scored = []
        for index in torch.arange(len(data.splits.stores[split])).split(data.batch_size):
            batch, probabilities = self._predict(data, split, index)
            metrics.update(probabilities, batch["mask"], batch.get("instances"))
            scores = image_jaccard(probabilities >= metrics.threshold, batch["mask"])
            scored += list(zip(scores.tolist(), index.tolist(), strict=True))
        metrics.compute(choose=False, sync=False)  # the first of several devices is alone here
        return [row for _, row in sorted(scored, key=lambda pair: (-pair[0], pair[1]))], metrics


def _weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
