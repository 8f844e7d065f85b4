"""Boxes of several networks, or of an image and its mirror image, as one set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MATCH_IOU = 0.55
"""Boxes that overlap more are one object: the paper's threshold."""


class Boxes(NamedTuple):
    """Detections of one image: ``boxes`` (n, 4), ``scores`` (n,), ``labels`` int (n,)."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]


def mirrored(boxes: Floats, width: float) -> Floats:
    """Boxes (n, 4) in the mirror image of an image of that width."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def fuse(found: Sequence[Boxes]) -> Boxes:
    """Weighted boxes fusion (Solovyev et al. 2021, arXiv:1910.13302), best score first.

    Boxes of one class that overlap are one object; its box is their mean weighted by score, its
    score their mean, times the share of the networks that found it. Of a single set, all are kept
    as they are.

    Args:
        found: the detections of each network in the same image.
    """
    if len(found) == 1:
        return found[0]
    boxes, scores, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    clusters: list[list[int]] = []
    fused: list[Floats] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        same = [k for k, members in enumerate(clusters) if labels[members[0]] == labels[i]]
        ious = [_iou(boxes[i], fused[k]) for k in same]
        if ious and max(ious) > MATCH_IOU:
            k = same[int(np.argmax(ious))]
            clusters[k].append(i)
            fused[k] = np.average(boxes[clusters[k]], 0, scores[clusters[k]])
        else:
            clusters.append([i])
            fused.append(boxes[i])
    shares = [min(len(members), len(found)) / len(found) for members in clusters]
    means = [scores[members].mean() for members in clusters]
    confidence = np.array(means, float) * np.array(shares, float)
    order = np.argsort(-confidence, kind="stable")
    classes = np.array([labels[members[0]] for members in clusters], np.int64)
    return Boxes(np.array(fused).reshape(-1, 4)[order], confidence[order], classes[order])


def _iou(one: Floats, other: Floats) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return common / (areas - common) if areas > common else 0.0
