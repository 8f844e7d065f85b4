"""COCO's average precision of any multiset of images, from the matches of each image.

Detections are matched within their image, so this is done once; only the curves of precision over
recall have to be drawn anew for each resample. The rules are those of COCO's evaluation (area
``all``, at most 100 detections, https://cocodataset.org/#detection-eval), which
`multitask.metrics.BoxScores` applies to the split itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from phasewise.analysis.items import Floats

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
"""COCO's thresholds of IoU and of recall."""


class Matched(NamedTuple):
    """The detections of an image, and which of them are right.

    Attributes:
        scores: (D,).
        labels: (D,).
        right: bool (D, 10), by threshold of IoU.
        ignored: bool (D, 10): found what counts neither way.
        true_labels: (T,), of the objects that count.
    """

    scores: Floats
    labels: npt.NDArray[np.integer]
    right: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    true_labels: npt.NDArray[np.integer]


def match_image(
    found: dict[str, Tensor], boxes: Tensor, labels: Tensor, difficult: Tensor
) -> Matched:
    """Match detections with true boxes of their class.

    From the best score down, each takes the free object of the highest IoU, and only if there is
    none a difficult one, which any number of detections may find and whose IoU is the share of the
    detection that lies in it.

    Args:
        found: ``boxes`` (D, 4), ``scores`` (D,), ``labels`` (D,).
        boxes: true ones (T, 4).
        labels: (T,).
        difficult: bool (T,).
    """
    order = found["scores"].argsort(descending=True, stable=True)
    detected, classes = found["boxes"][order].double(), found["labels"][order]
    hard = difficult.bool()
    iou = box_iou(detected, boxes.double())
    if len(boxes) and len(detected):
        corners = torch.maximum(detected[:, None, :2], boxes[:, :2].double())
        opposite = torch.minimum(detected[:, None, 2:], boxes[:, 2:].double())
        share = (opposite - corners).clamp(min=0).prod(2) / box_area(detected)[:, None]
        iou = torch.where(hard, share.nan_to_num(0), iou)
        iou = torch.where(classes[:, None] == labels, iou, -1)
    right, ignored = _match(iou.cpu().numpy(), hard.cpu().numpy())
    return Matched(
        found["scores"][order].double().cpu().numpy(),
        classes.cpu().numpy(),
        right,
        ignored,
        labels[~hard].cpu().numpy(),
    )


def _match(
    iou: Floats, hard: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which detections are right and which are ignored, bool (D, 10) each.

    Args:
        iou: (D, T), -1 between different classes.
        hard: (T,).
    """
    right = np.zeros((len(iou), len(IOUS)), bool)
    ignored = np.zeros_like(right)
    for k, least in enumerate(IOUS):
        free = ~hard
        for row in np.flatnonzero((iou >= least).any(1)):
            values = iou[row]
            for among, target in ((free, right), (hard, ignored)):
                # of equals COCO takes the last one
                best = np.flatnonzero(among & (values >= least))
                if len(best):
                    chosen = best[::-1][values[best[::-1]].argmax()]
                    free[chosen] = False
                    target[row, k] = True
                    break
    return right, ignored


def average_precisions(images: Sequence[Matched | None]) -> Callable[[Floats], Floats]:
    """From weights (R, N) of the images to average precisions (R, C, 10) by class and threshold.

    NaN where the weighted images hold no object of a class that counts. Images without known
    boxes, None, do not count.
    """
    known = [(i, it) for i, it in enumerate(images) if it is not None]
    classes = 1 + max((int(c) for _, it in known for c in (*it.labels, *it.true_labels)), default=0)
    curves = [_Curve(known, c, len(images)) for c in range(classes)]

    def compute(weights: Floats) -> Floats:
        return np.stack([[curve.precision(row) for curve in curves] for row in weights])

    return compute


class _Curve:
    """Precision over recall of one class, by threshold of IoU."""

    def __init__(self, known: Sequence[tuple[int, Matched]], label: int, images: int) -> None:
        chosen = [(i, it, it.labels == label) for i, it in known]
        scores = np.concatenate([it.scores[mine] for _, it, mine in chosen])
        order = np.argsort(-scores, kind="mergesort")
        owners = [np.full(mine.sum(), i) for i, _, mine in chosen]
        self.owner = np.concatenate(owners)[order].astype(int)
        right = np.concatenate([it.right[mine] for _, it, mine in chosen])[order].T
        ignored = np.concatenate([it.ignored[mine] for _, it, mine in chosen])[order].T
        self.right, self.counts = right.astype(float), (~ignored).astype(float)
        self.objects = np.zeros(images)
        for i, it, _ in chosen:
            self.objects[i] = (it.true_labels == label).sum()

    def precision(self, weights: Floats) -> Floats:
        """The mean precision (10,) over `RECALLS` for images that count ``weights`` (N,) times."""
        objects = self.objects @ weights
        if not objects:
            return np.full(len(IOUS), np.nan)
        each = weights[self.owner]
        right, all_ = (self.right * each).cumsum(1), (self.counts * each).cumsum(1)
        precision = right / np.maximum(all_, np.finfo(float).tiny)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        envelope = np.pad(envelope, ((0, 0), (0, 1)))  # recalls that are never reached
        recall = right / objects
        return np.array(
            [
                line[np.searchsorted(reached, RECALLS)].mean()
                for line, reached in zip(envelope, recall, strict=True)
            ]
        )
