"""Scores of single images, and the metrics of a split from the counts of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multitask.average_precision import Matched, average_precisions, match_image
from multitask.figures import SHOWN_SCORE, box_f1
from multitask.metrics import VOID, Detections
from phasewise.analysis.items import Floats, Items, MetricsOf, ratio
from phasewise.data.batch import Batch


class Seen(NamedTuple):
    """What is kept of an image.

    Attributes:
        row: in the split.
        pixels: (3, C), by class the pixels that are right, true and predicted, void ones left out;
            None without a segmentation head.
        boxes: None without a detection head, or without known boxes.
        f1: of the detections with a score of `SHOWN_SCORE` or more; NaN where ``boxes`` is None.
    """

    row: int
    pixels: Tensor | None
    boxes: Matched | None
    f1: float


def observe(
    classes: int, masks: Tensor | None, found: Detections | None, batch: Batch
) -> list[Seen]:
    """See `Seen`.

    Args:
        classes: C, background included.
        masks: predicted (B, S, S), or None.
        found: detections per image, or None.
        batch: with the truth.
    """
    seen = []
    for i, row in enumerate(batch["index"].tolist()):
        pixels = None if masks is None else count_pixels(masks[i], batch["mask"][i], classes).cpu()
        boxes, f1 = None, float("nan")
        if found is not None and bool(batch["has_boxes"][i]):
            real = batch["labels"][i] > 0
            true, labels = batch["boxes"][i][real], batch["labels"][i][real]
            boxes = match_image(found[i], true, labels, batch["difficult"][i][real])
            shown = found[i]["scores"] >= SHOWN_SCORE
            f1 = box_f1(found[i]["boxes"][shown], found[i]["labels"][shown], true, labels)
        seen.append(Seen(row, pixels, boxes, f1))
    return seen


def count_pixels(mask: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Right, true and predicted pixels (3, C) of each class; void ones are left out."""
    known = truth != VOID
    predicted, wanted = mask[known].long(), truth[known].long()
    parts = (wanted[predicted == wanted], wanted, predicted)
    return torch.stack([part.bincount(minlength=classes) for part in parts])


def make_items(observed: Sequence[Seen], class_names: Sequence[str]) -> Items:
    """Images are items; see `phasewise.analysis.items.Items`.

    Metrics have the names of `multitask.metrics.compute_scores`. Average precision is recomputed
    from the matches of each image, which do not depend on the other images.
    """
    parts: list[MetricsOf] = []
    scores: dict[str, Floats] = {}
    if all(it.pixels is not None for it in observed):
        pixels = torch.stack([it.pixels for it in observed if it.pixels is not None])
        counts = pixels.numpy().astype(float)
        parts.append(lambda weights: _pixel_figures(weights, counts, class_names))
        own = _pixel_figures(np.eye(len(counts)), counts, class_names)
        scores |= {name: own[name] for name in ("mIoU", "pixel_acc")}
    matched = [it.boxes for it in observed]
    if any(it is not None for it in matched):
        curves = average_precisions(matched)
        parts.append(lambda weights: _box_figures(curves(weights), class_names))
        scores["box_f1"] = np.array([it.f1 for it in observed])
        found = [np.nan if it is None else (it.scores >= SHOWN_SCORE).sum() for it in matched]
        scores["boxes"] = np.array(found, float)
        real = [np.nan if it is None else len(it.true_labels) for it in matched]
        scores["true_boxes"] = np.array(real, float)

    def figures(weights: Floats) -> dict[str, Floats]:
        return {name: value for part in parts for name, value in part(weights).items()}

    return Items("images", np.array([it.row for it in observed]), scores, figures)


def _pixel_figures(
    weights: Floats, counts: Floats, class_names: Sequence[str]
) -> dict[str, Floats]:
    """mIoU, pixel accuracy and IoU by class; ``counts`` (N, 3, C)."""
    right, true, predicted = (weights @ counts[:, i] for i in range(3))
    iou = np.where(true > 0, ratio(right, true + predicted - right), np.nan)
    occur = (true > 0).sum(1)
    found = {
        "mIoU": ratio(np.nansum(iou, 1), occur),
        "pixel_acc": ratio(right.sum(1), true.sum(1)),
    }
    return found | {f"IoU/{name}": iou[:, i] for i, name in enumerate(class_names)}


def _box_figures(precisions: Floats, class_names: Sequence[str]) -> dict[str, Floats]:
    """mAP, mAP50 and AP by class from average precisions (R, C, 10), NaN for absent classes."""
    present = ~np.isnan(precisions[:, :, 0])
    by_class = precisions.mean(2)
    found = {
        "mAP": ratio(np.nansum(by_class, 1), present.sum(1)),
        "mAP50": ratio(np.nansum(precisions[:, :, 0], 1), present.sum(1)),
    }
    classes = range(min(len(class_names), precisions.shape[1]))
    return found | {f"AP/{class_names[i]}": by_class[:, i] for i in classes}
