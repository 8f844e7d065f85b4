"""Multi-task segmentation and detection as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from multitask.balance import make_balance
from multitask.baselines import majority_class, mean_boxes
from multitask.figures import examples_figure, image_score, make_example
from multitask.items import Seen, make_items, observe
from multitask.losses import FcosLoss, SegmentationLoss, class_balance, decode_boxes
from multitask.metrics import (
    BoxScores,
    Detections,
    SegmentationScores,
    compute_scores,
    make_metrics,
    update_boxes,
)
from multitask.networks import MultitaskNetwork, Points
from phasewise.analysis.items import Items
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.module import Scores, TaskModule

if TYPE_CHECKING:
    from multitask.predict import MultitaskPredictor

TASKS = ("segmentation", "detection")

SCORE_THRESHOLD = 0.05
CANDIDATES = 400
"""Best-scoring boxes per image that go into non-maximum suppression."""
NMS_IOU = 0.5
MAX_DETECTIONS = 100


class MultitaskModule(TaskModule):
    """A backbone shared by a segmentation head and a detection head.

    Images without masks train detection only, images without boxes segmentation only.

    Args:
        config: the run's config, ``model`` and ``loss`` as in ``conf/task/multitask.yaml``.
        data: a data module of `multitask.data`, set up, or a checkpoint's ``info``.
    """

    network: MultitaskNetwork
    headline = ("mIoU", "pixel_acc", "mAP", "mAP50")

    def __init__(
        self, config: Mapping[str, Any], data: StoreDataModule | Mapping[str, Any]
    ) -> None:
        super().__init__(config, data)
        model, loss = self.config["model"], self.config["loss"]
        classes = len(self.info["class_names"])
        self.network = MultitaskNetwork(classes, self.info["image_size"], **model)
        weights = None
        if loss["class_weights"] == "balanced":
            weights = torch.ones(classes)  # a checkpoint brings its own
            if isinstance(data, StoreDataModule):
                weights = class_balance(data.splits.stores["train"]["mask"], classes)
        self.segmentation_loss = SegmentationLoss(
            loss["segmentation"],
            num_classes=classes,
            class_weights=weights,
            label_smoothing=loss["label_smoothing"],
            focal_gamma=loss["focal_gamma"],
        )
        self.detection_loss = FcosLoss(loss["boxes"])
        self.weights = {task: loss[f"{task}_weight"] for task in self.loss_names()}
        self.balance = make_balance(loss["balance"], self.weights)
        self.metrics = make_metrics(classes, self.loss_names())

    def describe(self, data: StoreDataModule) -> dict[str, Any]:
        """Class names (background first) and the side of the images in pixels."""
        return {"class_names": data.splits.class_names, "image_size": data.image_size}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``(B, 3, S, S)`` to the outputs of `MultitaskNetwork.forward`."""
        return self.network(images)

    def loss_names(self) -> tuple[str, ...]:
        """The tasks that have a head."""
        model = self.config["model"]
        return tuple(task for task in TASKS if model[f"{task}_head"] != "none")

    def terms(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """``segmentation`` and ``detection``, each as far as there is a head for it."""
        terms = {}
        if "segmentation" in self.weights:
            terms["segmentation"] = self.segmentation_loss(outputs["segmentation"], batch["mask"])
        if "detection" in self.weights:
            parts = self.detection_loss(
                *(outputs[key] for key in ("class_logits", "ltrb", "centerness")),
                *self._points(),
                *(batch[key] for key in ("boxes", "labels", "difficult", "has_boxes")),
            )
            terms["detection"] = torch.stack(list(parts.values())).sum()
        return terms

    def _points(self) -> Points:
        assert self.network.detection is not None
        return self.network.detection.points(self.info["image_size"], self.device)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The terms, balanced."""
        return self.balance(terms, self.network.last_shared_weight)

    def reported(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum under the fixed weights, whatever the balance."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def boxes(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, P, 4)`` in pixels, cut off at the border, and scores ``(B, P, C - 1)`` of the
        classes from 1 on, of every point of the pyramid."""
        size, points = self.info["image_size"], self._points()
        classes = outputs["class_logits"].float().sigmoid()
        scores = (classes * outputs["centerness"].float().sigmoid()[..., None]).sqrt()
        boxes = decode_boxes(points.xy, outputs["ltrb"].float() * points.stride[:, None])
        return clip_boxes_to_image(boxes, (size, size)), scores

    @torch.no_grad()
    def detections(self, outputs: dict[str, Tensor]) -> Detections:
        """Boxes after non-maximum suppression: per image ``boxes`` (n, 4) in pixels, ``scores`` and
        ``labels`` (>= 1), best first."""
        boxes, scores = self.boxes(outputs)
        best, flat = scores.flatten(1).topk(min(CANDIDATES, scores[0].numel()))
        classes = scores.shape[-1]
        point, label = flat // classes, flat % classes + 1
        boxes = boxes.gather(1, point[..., None].expand(-1, -1, 4))
        kept = best > SCORE_THRESHOLD
        found = []
        for i, mask in enumerate(kept):
            one = {"boxes": boxes[i][mask], "scores": best[i][mask], "labels": label[i][mask]}
            chosen = batched_nms(*one.values(), NMS_IOU)[:MAX_DETECTIONS]
            found.append({key: value[chosen] for key, value in one.items()})
        return found

    def score(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Update the metrics of both tasks with a batch."""
        for metric in self.metrics.values():
            if isinstance(metric, SegmentationScores):
                metric.update(outputs["segmentation"].argmax(1), batch["mask"])
            elif isinstance(metric, BoxScores):
                update_boxes(metric, self.detections(outputs), batch)

    def scores(self, stage: str) -> Scores:
        """mIoU, pixel accuracy, mAP, mAP50, and IoU and AP per class that occurs."""
        return compute_scores(self.metrics, self.info["class_names"])

    def baselines(self, data: StoreDataModule, split: str) -> dict[str, Scores]:
        """The most frequent class everywhere; for each class its mean box."""
        found = {}
        if "segmentation" in self.metrics:
            found["majority"] = majority_class(data, split)
        if "detection" in self.metrics:
            found["mean_box"] = mean_boxes(data, split)
        return found

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Learned task weights are no weights of the network: they do not decay."""
        own = list(self.balance.parameters())
        groups = [{"params": [p for p in self.network.parameters() if p.requires_grad]}]
        return [*groups, {"params": own, "weight_decay": 0.0}] if own else groups

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Left to the balance: PCGrad projects gradients instead of adding losses."""
        self.balance.backward(loss, list(self.parameters()))

    def observe(self, outputs: dict[str, Tensor], batch: Batch) -> list[Seen]:
        """See `multitask.items`."""
        masks = outputs["segmentation"].argmax(1) if "segmentation" in outputs else None
        found = self.detections(outputs) if "class_logits" in outputs else None
        return observe(len(self.info["class_names"]), masks, found, batch)

    def items(self, observed: Sequence[list[Seen]]) -> Items:
        """Images with their mIoU, pixel accuracy and F1 of boxes."""
        return make_items([it for batch in observed for it in batch], self.info["class_names"])

    def deployed(self, images: Tensor) -> dict[str, Tensor]:
        """``segmentation`` logits ``(B, C, S, S)``; ``boxes`` and ``scores``, see `boxes`."""
        outputs = self(images)
        found = {key: outputs[key] for key in ("segmentation",) if key in outputs}
        if "class_logits" in outputs:
            found |= dict(zip(("boxes", "scores"), self.boxes(outputs), strict=True))
        return found

    def export_notes(self) -> dict[str, Any]:
        """What the outputs are, and what is left to do with boxes."""
        notes: dict[str, Any] = {"outputs": {}}
        if "segmentation" in self.weights:
            notes["outputs"]["segmentation"] = "logits of the classes, of each pixel"
        if "detection" in self.weights:
            notes["outputs"] |= {
                "boxes": "candidates x1, y1, x2, y2 in pixels, before non-maximum suppression",
                "scores": "of each candidate for the classes from 1 on, in [0, 1]",
            }
            notes["suppression"] = {
                "score": SCORE_THRESHOLD,
                "candidates": CANDIDATES,
                "iou": NMS_IOU,
                "boxes": MAX_DETECTIONS,
            }
        return notes

    def predictor(self) -> type[MultitaskPredictor]:
        """See `multitask.predict`."""
        from multitask.predict import MultitaskPredictor

        return MultitaskPredictor

    @torch.no_grad()
    def draw(self, data: StoreDataModule, split: str, count: int) -> dict[str, Figure]:
        """``best`` and ``worst`` images by `multitask.figures.image_score`."""
        self.eval()
        scored = self._score_images(data, split)
        names, classes = data.splits.names[split], self.info["class_names"]
        figures = {}
        for title, chosen in (("best", scored[:count]), ("worst", scored[::-1][:count])):
            examples = []
            for score, row in chosen:
                batch, masks, found = self._predict(data, split, torch.tensor([row]))
                examples.append(make_example(names[row], score, batch, 0, masks[0], found[0]))
            if examples:
                text = f"{title} {split} images"
                figures[title] = examples_figure(text, examples, classes)
        return figures

    def _score_images(self, data: StoreDataModule, split: str) -> list[tuple[float, int]]:
        """Score and row of every image, best first; those without truth are left out."""
        classes = len(self.info["class_names"])
        scored = []
        for index in torch.arange(len(data.splits.stores[split])).split(data.batch_size):
            batch, masks, found = self._predict(data, split, index)
            for i, row in enumerate(index.tolist()):
                score = image_score(batch, i, masks[i], found[i], classes)
                if not math.isnan(score):
                    scored.append((score, row))
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))

    def _predict(
        self, data: StoreDataModule, split: str, index: Tensor
    ) -> tuple[Batch, Sequence[Tensor | None], Sequence[dict[str, Tensor] | None]]:
        """A batch, its predicted masks and its detections; None from a missing head."""
        batch = data.prepared(split, index, self.device)
        outputs = self(batch["image"])
        none = [None] * len(index)
        masks = list(outputs["segmentation"].argmax(1)) if "segmentation" in outputs else none
        found = self.detections(outputs) if "class_logits" in outputs else none
        return batch, masks, found

    def on_train_epoch_end(self) -> None:
        """Dynamic weight average goes by the mean losses of past epochs."""
        means = self.trainer.callback_metrics
        names = {
            name: f"train/loss/{name}" if len(self.weights) > 1 else "train/loss"
            for name in self.weights
        }
        self.balance.on_epoch_end({name: float(means[key]) for name, key in names.items()})
