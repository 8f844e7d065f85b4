"""The evaluation protocol in plain loops: nothing shared with the code under test."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Scores = dict[str, float | list[float]]


def distance_matrix(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    found = np.empty((len(queries), len(gallery)))
    for i, a in enumerate(queries.astype(np.float64)):
        for j, b in enumerate(gallery.astype(np.float64)):
            if distance == "euclidean":
                found[i, j] = math.sqrt(((a - b) ** 2).sum())
            else:
                norms = math.sqrt((a * a).sum()) * math.sqrt((b * b).sum())
                found[i, j] = 1 - (a * b).sum() / norms if norms else 1
    return found


def _judge(row: Any, query: Any, gallery: Any) -> list[bool]:
    """The ranked list of one query: right or wrong, without what does not count."""
    query_id, query_camera, query_image = query
    verdicts = []
    for j in sorted(range(len(row)), key=lambda j: (row[j], j)):
        gallery_id, gallery_camera, gallery_image = (column[j] for column in gallery)
        junk = gallery_id == -1
        same_camera = gallery_id == query_id and gallery_camera == query_camera
        itself = gallery_image == query_image
        if not (junk or same_camera or itself):
            verdicts.append(bool(gallery_id == query_id))
    return verdicts


def _average_precision(verdicts: list[bool], kind: str) -> float:
    """``trapezoid`` as in compute_AP of the protocol's original script: area under the curve of
    precision over recall, walked image by image."""
    total, found = sum(verdicts), 0
    area, precisions = 0.0, []
    old_recall, old_precision = 0.0, 1.0
    for rank, right in enumerate(verdicts, 1):
        found += right
        recall, precision = found / total, found / rank
        if right:
            precisions.append(precision)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area if kind == "trapezoid" else sum(precisions) / total


def evaluate(
    distances: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    max_rank: int = 50,
    average_precision: str = "hits",
    query_images: Any = None,
    gallery_images: Any = None,
) -> Scores | None:
    """The scores; None without a valid query."""
    queries, gallery = len(query_ids), len(gallery_ids)
    nobody, nothing = [object()] * queries, [object()] * gallery  # equal to none of the others
    if query_cameras is None:
        query_cameras, gallery_cameras = nobody, [object()] * gallery
    if query_images is None:
        query_images, gallery_images = nobody, nothing
    lists = [
        _judge(distances[i], query, (gallery_ids, gallery_cameras, gallery_images))
        for i, query in enumerate(zip(query_ids, query_cameras, query_images, strict=True))
        if query[0] != -1
    ]
    lists = [verdicts for verdicts in lists if any(verdicts)]
    if not lists:
        return None
    count = len(lists)

    def share(rank: int) -> float:
        return sum(any(verdicts[:rank]) for verdicts in lists) / count

    last = [max(rank for rank, right in enumerate(v, 1) if right) for v in lists]
    return {
        "mAP": sum(_average_precision(v, average_precision) for v in lists) / count,
        "mINP": sum(sum(v) / rank for v, rank in zip(lists, last, strict=True)) / count,
        "rank1": share(1),
        "rank5": share(5),
        "rank10": share(10),
        "cmc": [share(rank) for rank in range(1, max_rank + 1)],
        "valid_queries": count,
    }
