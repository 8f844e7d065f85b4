from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from localization.baselines import baselines, random_boxes
from phasewise.data.listed import Splits
from phasewise.data.store import Store

SIZE = 40


class Data:
    """As much of a data module as baselines look at."""

    def __init__(self, **stores: Store) -> None:
        self.splits = Splits(["background", "object"], stores=stores)
        self.image_size = SIZE

    def evaluated_rows(self, split: str) -> torch.Tensor:
        return torch.arange(len(self.splits.stores[split]))


def store(boxes: np.ndarray, labels: list[int] | None = None) -> Store:
    """One box per image, in pixels."""
    return Store(
        {
            "boxes": torch.from_numpy(boxes.astype(np.float32))[:, None],
            "labels": torch.tensor(labels or [1] * len(boxes))[:, None],
        }
    )


def drawn(seed: int, count: int) -> np.ndarray:
    """Boxes that are wide, low, and mostly to the upper left."""
    draw = np.random.default_rng(seed)
    size = draw.uniform([16, 6], [30, 14], (count, 2))
    low = draw.uniform(0, [8, 16], (count, 2))
    return np.concatenate([low, low + size], 1)


def expected(guess: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    iou = box_iou(torch.from_numpy(guess).double(), torch.from_numpy(truth)).diagonal().numpy()
    return {
        "IoU": pytest.approx(iou.mean(), abs=1e-6),
        "acc50": pytest.approx((iou > 0.5).mean()),
        "acc75": pytest.approx((iou > 0.75).mean()),
    }


def test_against_numpy() -> None:
    train, val = drawn(0, 31), drawn(1, 12)
    found = baselines(Data(train=store(train), val=store(val)), "val")  # type: ignore[arg-type]
    mean = np.broadcast_to(train.mean(0), val.shape).copy()
    width, height = np.median(train[:, 2:] - train[:, :2], axis=0)
    middle = np.array([SIZE - width, SIZE - height, SIZE + width, SIZE + height]) / 2
    center = np.broadcast_to(middle, val.shape).copy()
    chance = random_boxes(12, "val").numpy() * SIZE
    assert found == {
        "mean_box": expected(mean, val),
        "center_box": expected(center, val),
        "random_box": expected(chance, val),
    }
    assert found["mean_box"]["IoU"] > found["center_box"]["IoU"] > found["random_box"]["IoU"] > 0


def test_images_without_a_box_have_no_say() -> None:
    train, val = drawn(0, 9), drawn(1, 6)
    wanted = baselines(Data(train=store(train), val=store(val)), "val")  # type: ignore[arg-type]
    # Random boxes are those of their rows.
    wanted["random_box"] = expected(random_boxes(7, "val")[1:].numpy() * SIZE, val)
    stores = {
        split: store(np.concatenate([np.zeros((1, 4)), boxes]), [-1] + [1] * len(boxes))
        for split, boxes in (("train", train), ("val", val))
    }
    assert baselines(Data(**stores), "val") == wanted  # type: ignore[arg-type]


def test_nothing_to_learn_from_and_nothing_to_score() -> None:
    none = store(np.zeros((3, 4)), [-1] * 3)
    val = np.array([[0, 0, SIZE, SIZE / 2]])
    found = baselines(Data(train=none, val=store(val)), "val")  # type: ignore[arg-type]
    assert found["mean_box"]["IoU"] == found["center_box"]["IoU"] == 0.5  # the whole image
    found = baselines(Data(train=store(val), val=none), "val")  # type: ignore[arg-type]
    assert all(math.isnan(value) for scores in found.values() for value in scores.values())


def test_random_boxes() -> None:
    boxes = random_boxes(5000, "val")
    assert torch.equal(boxes, random_boxes(5000, "val"))
    assert not torch.equal(boxes, random_boxes(5000, "test"))
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    # Order statistics of two uniform numbers.
    wanted = torch.tensor([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    torch.testing.assert_close(boxes.mean(0), wanted, atol=0.02, rtol=0)
