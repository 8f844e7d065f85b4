"""Scores of both tasks: segmentation from one confusion matrix, boxes by torchmetrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.detection import MeanAveragePrecision

from multitask.average_precision import IOUS, RECALLS
from phasewise.data.batch import Batch
from phasewise.training.module import Scores, defined

VOID = 255
"""Mask value of pixels that count for nothing (PASCAL VOC's border)."""

Detections = list[dict[str, Tensor]]
"""Per image: ``boxes`` (n, 4) in pixels, ``scores`` (n,), ``labels`` (n,) >= 1."""

logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it reports every evaluation


class SegmentationScores(MulticlassConfusionMatrix):
    """mIoU, pixel accuracy and IoU per class, accumulated over the whole set as PASCAL VOC does.

    ``compute`` returns ``miou`` and ``pixel_acc`` (scalars) and ``iou`` ``(num_classes,)``. The
    mean is over the classes that occur in the ground truth; the others are NaN in ``iou``, and
    pixels wrongly given to them lower the IoU of the classes they were taken from. Void pixels
    (255) are left out. Without any labelled pixel everything is NaN.

    Args:
        num_classes: with background as class 0.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(num_classes, ignore_index=VOID, validate_args=False, **kwargs)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """The scores of all masks so far."""
        matrix = self.confmat.double()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        iou = torch.where(truth > 0, hits / (truth + predicted - hits), torch.nan)
        return {"miou": iou.nanmean(), "pixel_acc": hits.sum() / matrix.sum(), "iou": iou}


class BoxScores(MeanAveragePrecision):
    """COCO's mAP in which ranks may hold different numbers of images, or none.

    Thresholds of IoU and of recall are those of COCO's own evaluation, in double precision:
    torchmetrics' are single, which differs by up to .002.

    torchmetrics gathers its lists tensor by tensor, which aborts where the lists differ in length.
    Without an annotated image on any rank, ``map`` and ``map_50`` are NaN and no class is listed;
    COCO's evaluator would fail.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            box_format="xyxy",
            class_metrics=True,
            backend="faster_coco_eval",
            iou_thresholds=IOUS.tolist(),
            rec_thresholds=RECALLS.tolist(),
            **kwargs,
        )
        self.warn_on_many_detections = False

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        own = {name: [item.cpu() for item in getattr(self, name)] for name in self._reductions}
        everyone: list[Any] = [None] * dist.get_world_size(process_group)
        dist.all_gather_object(everyone, own, process_group)
        for name in own:
            setattr(
                self, name, [item.to(self.device) for other in everyone for item in other[name]]
            )

    def compute(self) -> dict[str, Tensor]:
        """torchmetrics' dictionary, of all images so far."""
        if self.groundtruth_labels:
            return super().compute()
        none = torch.zeros(0)
        undefined = torch.tensor(torch.nan)
        return {"map": undefined, "map_50": undefined, "classes": none, "map_per_class": none}


def make_metrics(num_classes: int, tasks: Sequence[str]) -> nn.ModuleDict:
    """The metrics of ``segmentation``, of ``detection`` or of both."""
    metrics = nn.ModuleDict()
    if "segmentation" in tasks:
        metrics["segmentation"] = SegmentationScores(num_classes)
    if "detection" in tasks:
        metrics["detection"] = BoxScores()
    return metrics


def update_boxes(metric: MeanAveragePrecision, found: Detections, batch: Batch) -> None:
    """Update mAP with the images of a batch whose boxes are known.

    Difficult objects are passed as crowds: neither finding nor missing them counts.
    """
    targets, kept = [], []
    for i in batch["has_boxes"].nonzero().flatten().tolist():
        real = batch["labels"][i] > 0
        targets.append(
            {
                "boxes": batch["boxes"][i][real],
                "labels": batch["labels"][i][real],
                "iscrowd": batch["difficult"][i][real].long(),
            }
        )
        kept.append(found[i])
    metric.update(kept, targets)


def compute_scores(metrics: nn.ModuleDict, class_names: Sequence[str]) -> Scores:
    """mIoU, pixel_acc, mAP, mAP50 and, with a slash, IoU and AP of each class that occurs.

    The metrics are reset. Undefined scores are NaN.
    """
    scores: Scores = {}
    if "segmentation" in metrics:
        found = cast(SegmentationScores, metrics["segmentation"]).compute()
        scores |= {"mIoU": float(found["miou"]), "pixel_acc": float(found["pixel_acc"])}
        scores |= _per_class("IoU", range(len(class_names)), found["iou"], class_names)
    if "detection" in metrics:
        found = cast(BoxScores, metrics["detection"]).compute()
        scores |= {"mAP": defined(found["map"]), "mAP50": defined(found["map_50"])}
        labels = found["classes"].flatten().int().tolist()
        scores |= _per_class("AP", labels, found["map_per_class"].flatten(), class_names)
    for metric in metrics.values():
        cast(Metric, metric).reset()
    return scores


def _per_class(
    prefix: str, labels: Sequence[int], values: Tensor, class_names: Sequence[str]
) -> Scores:
    pairs = zip(labels, values.tolist(), strict=True)
    return {f"{prefix}/{class_names[i]}": v for i, v in pairs if v >= 0}
