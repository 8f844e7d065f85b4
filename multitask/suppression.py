"""From the boxes of all points of the pyramid to the objects of an image."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torchvision.ops import batched_nms

from multitask.metrics import Detections

SCORE_THRESHOLD = 0.05
CANDIDATES = 400
"""Best-scoring boxes per image that go into non-maximum suppression."""
NMS_IOU = 0.5
MAX_DETECTIONS = 100

SUPPRESSION: Mapping[str, float] = {
    "score": SCORE_THRESHOLD,
    "candidates": CANDIDATES,
    "iou": NMS_IOU,
    "boxes": MAX_DETECTIONS,
}
"""What users of an exported network do as `suppressed` does."""


def suppressed(boxes: Tensor, scores: Tensor) -> Detections:
    """Non-maximum suppression within each class.

    Args:
        boxes: (B, P, 4), x1, y1, x2, y2 in pixels.
        scores: (B, P, C - 1), of the classes from 1 on, in [0, 1].

    Returns:
        Per image ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,), >= 1, best first.
    """
    best, flat = scores.flatten(1).topk(min(CANDIDATES, scores[0].numel()))
    classes = scores.shape[-1]
    point, label = flat // classes, flat % classes + 1
    boxes = boxes.gather(1, point[..., None].expand(-1, -1, 4))
    found = []
    for i, kept in enumerate(best > SCORE_THRESHOLD):
        one = {"boxes": boxes[i][kept], "scores": best[i][kept], "labels": label[i][kept]}
        chosen = batched_nms(*one.values(), NMS_IOU)[:MAX_DETECTIONS]
        found.append({key: value[chosen] for key, value in one.items()})
    return found
