"""Scores in plain numpy, as their definitions say: slow, and nobody else's code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Image = dict[str, NDArray]
"""``boxes`` (n, 4), ``labels`` (n,), and ``scores`` or ``difficult`` (n,)."""

COCO_IOUS = [0.5 + 0.05 * i for i in range(10)]


def iou_per_class(guess: NDArray, truth: NDArray, classes: int) -> NDArray[np.float64]:
    """IoU of each class over all pixels that are not 255; NaN for classes without a true pixel."""
    guess, truth = guess[truth != 255], truth[truth != 255]
    found = np.full(classes, np.nan)
    for c in range(classes):
        if (truth == c).any():
            both, either = (guess == c) & (truth == c), (guess == c) | (truth == c)
            found[c] = both.sum() / either.sum()
    return found


def average_precision(found: list[Image], truth: list[Image], label: int, iou: float) -> float:
    """COCO's AP of one class: precision at 101 recalls. NaN without an object to be found.

    Difficult objects are COCO's crowds: what lies in one is neither right nor wrong.
    """
    marks: list[tuple[float, bool]] = []
    wanted = 0
    for guess, image in zip(found, truth, strict=True):
        mine, real = guess["labels"] == label, image["labels"] == label
        boxes, easy = image["boxes"][real], ~image["difficult"][real]
        wanted += int(easy.sum())
        taken = np.zeros(len(boxes), bool)
        for i in np.argsort(-guess["scores"][mine], kind="stable"):
            box, score = guess["boxes"][mine][i], float(guess["scores"][mine][i])
            overlaps = [_overlap(box, other) for other in boxes]
            free = [
                (overlap, j)
                for j, overlap in enumerate(overlaps)
                if easy[j] and not taken[j] and overlap >= iou
            ]
            if free:
                taken[max(free)[1]] = True
                marks.append((score, True))
            elif not any(_inside(box, other) >= iou for other in boxes[~easy]):
                marks.append((score, False))
    if not wanted:
        return np.nan
    marks.sort(key=lambda mark: -mark[0])
    right = np.cumsum([hit for _, hit in marks])
    recall, precision = right / wanted, right / np.arange(1, len(marks) + 1)
    levels = np.linspace(0, 1, 101)  # COCO's own, in double precision
    return float(np.mean([precision[recall >= level].max(initial=0) for level in levels]))


def mean_ap(found: list[Image], truth: list[Image], classes: int, ious: list[float]) -> float:
    """Mean over the classes that have objects, and over the thresholds."""
    table = [
        [average_precision(found, truth, label, iou) for iou in ious] for label in range(1, classes)
    ]
    known = [np.mean(row) for row in table if not np.isnan(row).any()]
    return float(np.mean(known)) if known else np.nan


def _area(box: Boxes) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _both(a: Boxes, b: Boxes) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _overlap(a: Boxes, b: Boxes) -> float:
    return _both(a, b) / (_area(a) + _area(b) - _both(a, b))


def _inside(box: Boxes, crowd: Boxes) -> float:
    return _both(box, crowd) / _area(box)
