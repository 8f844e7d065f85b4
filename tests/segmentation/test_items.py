"""Metrics of resampled images are those of the metrics, given the images as often."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segmentation.figures import image_jaccard
from segmentation.items import make_items, observe
from segmentation.metrics import VOID, SegmentationScores
from segmentation.objects import split_objects

IMAGES, SIDE, THRESHOLD = 8, 40, 0.4


def discs(generator: np.random.Generator) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(int(generator.integers(1, 5))):
        cy, cx, r = generator.integers(5, SIDE - 5), generator.integers(5, SIDE - 5), 4
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= r * r
    return mask


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(0)
    masks = np.stack([discs(generator) for _ in range(IMAGES)])
    masks[3] = False
    objects = np.stack([split_objects(mask, min_area=4, min_distance=3) for mask in masks])
    noise = generator.normal(0, 0.25, masks.shape)
    mask = torch.from_numpy(masks.astype(np.uint8))
    mask[:, :3] = VOID
    mask[5] = VOID  # nothing is known of it
    return {
        "index": torch.arange(IMAGES) + 20,
        "mask": mask,
        "instances": torch.from_numpy(objects.astype(np.int16)),
        "probabilities": torch.from_numpy(np.clip(0.2 + 0.6 * masks + noise, 0, 1)).float(),
    }


def scores_of(batch: dict[str, torch.Tensor], rows: list[int], objects: bool) -> dict[str, float]:
    metrics = SegmentationScores(THRESHOLD, objects=objects, min_area=4, min_distance=3)
    metrics.update(batch["probabilities"][rows], batch["mask"][rows], batch["instances"][rows])
    return metrics.compute(choose=False)


@pytest.mark.parametrize("objects", [True, False])
def test_any_multiset_of_images(batch: dict[str, torch.Tensor], objects: bool) -> None:
    metrics = SegmentationScores(THRESHOLD, objects=objects, min_area=4, min_distance=3)
    seen = observe(metrics, batch["probabilities"], batch)
    items = make_items([seen], float(metrics.threshold))
    assert items.rows.tolist() == [20, 21, 22, 23, 24, 26, 27]
    known = [0, 1, 2, 3, 4, 6, 7]
    generator = np.random.default_rng(1)
    draws = [known, *(generator.choice(known, 7).tolist() for _ in range(4)), [3]]
    weights = np.stack([[rows.count(row) for row in known] for rows in draws]).astype(float)
    figures = items.metrics(weights)
    for i, rows in enumerate(draws):
        expected = scores_of(batch, rows, objects)
        del expected["threshold"]
        assert expected.keys() == figures.keys()
        for name, value in expected.items():
            assert figures[name][i] == pytest.approx(value, abs=1e-6, nan_ok=True), (name, i)


def test_the_scores_of_an_image(batch: dict[str, torch.Tensor]) -> None:
    metrics = SegmentationScores(THRESHOLD, objects=True, min_area=4, min_distance=3)
    items = make_items([observe(metrics, batch["probabilities"], batch)], float(metrics.threshold))
    found = batch["probabilities"] >= metrics.threshold
    expected = image_jaccard(found, batch["mask"])[items.rows - 20]
    assert items.scores["jaccard"] == pytest.approx(expected.numpy(), abs=1e-6)
    single = [scores_of(batch, [row - 20], True) for row in items.rows.tolist()]
    for name in ("precision", "recall", "objects"):
        reference = [one[name] for one in single]
        assert items.scores[name] == pytest.approx(reference, nan_ok=True)
    assert items.scores["true_objects"] == pytest.approx([one["truth/objects"] for one in single])
