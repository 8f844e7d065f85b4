"""The detections of several networks in one image as those of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phasewise.inference.prediction.boxes import Boxes, fuse


def fused_detections(found: Sequence[dict[str, Tensor]], most: int) -> dict[str, Tensor]:
    """Weighted boxes fusion, as predictions have it.

    Args:
        found: of each network ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,).
        most: how many are kept.

    Returns:
        The same, best first, on the device of the first.
    """
    sets = [
        Boxes(
            each["boxes"].cpu().double().numpy(),
            each["scores"].cpu().double().numpy(),
            each["labels"].cpu().numpy(),
        )
        for each in found
    ]
    boxes, scores, labels = (torch.from_numpy(part[:most].copy()) for part in fuse(sets))
    first = found[0]
    return {
        "boxes": boxes.to(first["boxes"]),
        "scores": scores.to(first["scores"]),
        "labels": labels.to(first["labels"]),
    }
