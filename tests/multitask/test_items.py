"""Metrics of resampled images are those of the metrics, given the images as often."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from multitask.items import make_items, observe
from multitask.metrics import VOID, compute_scores, make_metrics, update_boxes
from phasewise.data.batch import Batch

CLASSES = ["background", "a", "b", "never"]
SIDE, IMAGES = 64, 12


def random_boxes(generator: torch.Generator, count: int) -> Tensor:
    corners = torch.randint(0, SIDE - 24, (count, 2), generator=generator).float()
    return torch.cat([corners, corners + torch.randint(8, 24, (count, 2), generator=generator)], 1)


@pytest.fixture(params=[0, 1, 2])
def seen(request: pytest.FixtureRequest) -> tuple[Batch, Tensor, list[dict[str, Tensor]]]:
    """Images, masks and detections: near the truth, beside it, and of difficult objects."""
    g = torch.Generator().manual_seed(request.param)
    boxes, labels, found = [], [], []
    for _ in range(IMAGES):
        own = random_boxes(g, 5)
        kinds = torch.randint(1, 3, (5,), generator=g)
        kinds[torch.randint(2, 6, (1,), generator=g).item() :] = -1
        near = own + torch.randint(-3, 4, own.shape, generator=g)
        guesses = torch.cat([near, near + 1, random_boxes(g, 4)])
        classes = torch.cat([kinds.abs(), kinds.abs(), torch.randint(1, 4, (4,), generator=g)])
        scores = torch.rand(len(guesses), generator=g).sort(descending=True).values
        boxes.append(own), labels.append(kinds)
        found.append({"boxes": guesses, "scores": scores, "labels": classes})
    truth = torch.randint(0, 3, (IMAGES, SIDE, SIDE), generator=g).to(torch.uint8)
    masks = torch.where(torch.rand(truth.shape, generator=g) < 0.6, truth, 1).long()
    masks[0] = 3
    truth[torch.rand(truth.shape, generator=g) < 0.1] = VOID
    truth[1] = VOID  # without a mask
    batch = {
        "index": torch.arange(IMAGES),
        "mask": truth,
        "boxes": torch.stack(boxes),
        "labels": torch.stack(labels),
        "difficult": torch.rand(IMAGES, 5, generator=g) < 0.3,
        "has_boxes": torch.arange(IMAGES) != 2,
    }
    return cast(Batch, batch), masks, found


def by_metrics(
    batch: Batch, masks: Tensor, found: list[dict[str, Tensor]], rows: list[int]
) -> dict[str, float]:
    metrics = make_metrics(len(CLASSES), ["segmentation", "detection"])
    chosen = {key: value[rows] for key, value in batch.items()}
    metrics["segmentation"].update(masks[rows], chosen["mask"])
    update_boxes(metrics["detection"], [found[row] for row in rows], chosen)  # type: ignore[arg-type]
    return compute_scores(metrics, CLASSES)


def test_any_multiset_of_images(seen: tuple[Batch, Tensor, list[dict[str, Tensor]]]) -> None:
    batch, masks, found = seen
    items = make_items(observe(len(CLASSES), masks, found, batch), CLASSES)
    draws = [list(range(IMAGES))]
    generator = np.random.default_rng(0)
    draws += [generator.integers(0, IMAGES, IMAGES).tolist() for _ in range(4)]
    weights = np.stack([np.bincount(rows, minlength=IMAGES) for rows in draws]).astype(float)
    figures = items.metrics(weights)
    for i, rows in enumerate(draws):
        expected = by_metrics(batch, masks, found, rows)
        assert {"mIoU", "pixel_acc", "mAP", "mAP50", "AP/a", "IoU/b"} <= expected.keys()
        for name, value in expected.items():
            assert figures[name][i] == pytest.approx(value, abs=1e-6), (name, i)
    assert 0.05 < figures["mAP"][0] < 0.9


def test_what_is_not_known_does_not_count() -> None:
    """Nothing but an image without boxes and without a mask."""
    batch = {
        "index": torch.tensor([7]),
        "mask": torch.full((1, 4, 4), VOID, dtype=torch.uint8),
        "boxes": torch.zeros(1, 1, 4),
        "labels": torch.full((1, 1), -1),
        "difficult": torch.zeros(1, 1, dtype=torch.bool),
        "has_boxes": torch.zeros(1, dtype=torch.bool),
    }
    found = [
        {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    ]
    items = make_items(observe(4, torch.zeros(1, 4, 4).long(), found, batch), CLASSES)
    assert items.rows.tolist() == [7]
    figures = items.metrics(np.ones((1, 1)))
    assert np.isnan(figures["mIoU"]).all() and np.isnan(figures["pixel_acc"]).all()
    assert "mAP" not in figures
