"""Trivial predictors: what a network must beat to have learned anything."""

from __future__ import annotations

import torch
from torch import Tensor

from localization.metrics import BoxIoU
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.seeding import derive
from phasewise.training.module import Scores


def baselines(data: StoreDataModule, split: str) -> dict[str, Scores]:
    """What each trivial predictor scores on a split, see `localization.metrics.BoxIoU`.

    Every process looks at all that is evaluated.

    Args:
        data: whose stores hold ``boxes`` float32 (N, 1, 4) in pixels and ``labels`` (N, 1), 1
            where there is a box and -1 where there is none.
        split: the one to score.
    """
    targets, rows = _true_boxes(data, split, data.evaluated_rows(split))
    found = trivial_boxes(data, split, rows)
    return {name: _score(boxes, targets) for name, boxes in found.items()}


def trivial_boxes(data: StoreDataModule, split: str, rows: Tensor) -> dict[str, Tensor]:
    """The boxes (n, 4) of each trivial predictor in rows (n,) of a split, as fractions of the side.

    Args:
        data: see `baselines`.
        split: whose rows these are.
        rows: of images.
    """
    known = _true_boxes(data, "train", torch.arange(len(data.splits.stores["train"])))[0]
    if not len(known):
        known = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    return {
        "mean_box": mean_box(known).expand(len(rows), 4),
        "center_box": center_box(known).expand(len(rows), 4),
        "random_box": random_boxes(len(data.splits.stores[split]), split)[rows],
    }


def mean_box(boxes: Tensor) -> Tensor:
    """The mean (4,) of boxes (N, 4), coordinate by coordinate."""
    return boxes.mean(0)


def center_box(boxes: Tensor) -> Tensor:
    """The box (4,) in the middle of the image whose width and height are the medians of those of
    boxes (N, 4), fractions of the side."""
    half = (boxes[:, 2:] - boxes[:, :2]).median(0).values / 2
    return torch.cat([0.5 - half, 0.5 + half])


def random_boxes(count: int, split: str) -> Tensor:
    """A box for each row of a split, always the same ones: (count, 4), fractions of the side.

    The corners are two points that are equally likely to be anywhere.
    """
    generator = torch.Generator().manual_seed(derive("random_box", split))
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values
    return corners.flatten(1)


def _true_boxes(data: StoreDataModule, split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes (n, 4) of rows of a split as fractions of the side, and those rows (n,) that have
    one."""
    store = data.splits.stores[split]
    rows = rows[store["labels"].cpu()[rows, 0] > 0]
    return store["boxes"].cpu()[rows, 0] / data.image_size, rows


def _score(boxes: Tensor, targets: Tensor) -> Scores:
    metric = BoxIoU(sync_on_compute=False)
    metric.update(boxes, targets)
    return {name: float(value) for name, value in metric.compute().items()}
