"""Trivial predictors: what a network must beat to have learned anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from multitask.metrics import (
    VOID,
    BoxScores,
    SegmentationScores,
    compute_scores,
    make_metrics,
    update_boxes,
)
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.training.module import Scores

CHUNK = 256
"""Images looked at together."""


def _chunks(data: StoreDataModule, split: str, *fields: str) -> Iterator[Batch]:
    """All training images; of another split those that are evaluated."""
    store = data.splits.stores[split]
    wanted = torch.arange(len(store)) if split == "train" else data.evaluated_rows(split)
    for index in wanted.split(CHUNK):
        rows = store.gather(index, fields)
        yield Batch({field: tensor.cpu() for field, tensor in rows.items()})


def majority_class(data: StoreDataModule, split: str) -> Scores:
    """Every pixel gets the class that most pixels of the training masks have."""
    classes = len(data.splits.class_names)
    count = torch.zeros(256, dtype=torch.int64)
    for batch in _chunks(data, "train", "mask"):
        count += batch["mask"].flatten().bincount(minlength=256)
    count[VOID] = 0
    metrics = make_metrics(classes, ["segmentation"])
    for batch in _chunks(data, split, "mask"):
        guess = torch.full_like(batch["mask"], int(count.argmax()))
        cast(SegmentationScores, metrics["segmentation"]).update(guess, batch["mask"])
    return compute_scores(metrics, data.splits.class_names)


def mean_boxes(data: StoreDataModule, split: str) -> Scores:
    """Every image gets the mean training box of each class, scored by the class's frequency."""
    classes = len(data.splits.class_names)
    boxes, occurrences = _mean_boxes(data, classes)
    present = occurrences.nonzero().flatten()
    guess = {
        "boxes": boxes[present],
        "scores": occurrences[present] / occurrences.sum().clamp(min=1),
        "labels": present,
    }
    metrics = make_metrics(classes, ["detection"])
    for batch in _chunks(data, split, "boxes", "labels", "difficult", "has_boxes"):
        update_boxes(cast(BoxScores, metrics["detection"]), [guess] * len(batch["labels"]), batch)
    return compute_scores(metrics, data.splits.class_names)


def _mean_boxes(data: StoreDataModule, classes: int) -> tuple[Tensor, Tensor]:
    """Mean box ``(C, 4)`` and number of objects ``(C,)`` per class of the training split."""
    total = torch.zeros(classes, 4, dtype=torch.float64)
    count = torch.zeros(classes, dtype=torch.float64)
    for batch in _chunks(data, "train", "boxes", "labels"):
        real = batch["labels"] > 0
        labels = batch["labels"][real]
        total.index_add_(0, labels, batch["boxes"][real].double())
        count += labels.bincount(minlength=classes)
    mean = total / count.clamp(min=1)[:, None]
    return mean.float(), count.float()
