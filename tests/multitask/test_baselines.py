from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from multitask import baselines
from multitask.baselines import majority_class, mean_boxes
from phasewise.data.listed import Splits
from phasewise.data.store import Store
from tests.multitask.reference import COCO_IOUS, Image, iou_per_class, mean_ap

NAMES = ["background", "cat", "dog", "cow"]
SIZE = 24
MOST = 4


class _Data:
    """As much of a data module as baselines look at."""

    def __init__(self, **stores: Store) -> None:
        self.splits = Splits(NAMES, stores=stores)

    def evaluated_rows(self, split: str) -> torch.Tensor:
        return torch.arange(len(self.splits.stores[split]))


def _store(seed: int, count: int, *, has_boxes: bool = True, has_mask: bool = True) -> Store:
    """Random masks, mostly of class 2, and boxes of the classes 1 and 3."""
    draw = np.random.default_rng(seed)
    mask = draw.choice([0, 1, 2, 255], (count, SIZE, SIZE), p=[0.2, 0.1, 0.3, 0.4])
    corners = draw.uniform(0, 8, (count, MOST, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(8, 14, (count, MOST, 2))], 2)
    labels = draw.choice([-1, 1, 3], (count, MOST), p=[0.3, 0.5, 0.2])
    if not has_boxes:
        labels[:] = -1
    if not has_mask:
        mask[:] = 255
    boxes[labels < 0] = 0
    return Store(
        {
            "mask": torch.from_numpy(mask.astype(np.uint8)),
            "boxes": torch.from_numpy(boxes.astype(np.float32)),
            "labels": torch.from_numpy(labels),
            "difficult": torch.from_numpy((draw.random((count, MOST)) < 0.2) & (labels > 0)),
            "has_boxes": torch.full((count,), has_boxes),
        }
    )


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "CHUNK", 3)  # so that splits here take several


def test_majority_class_against_numpy() -> None:
    data: Any = _Data(train=_store(0, 7), val=_store(1, 5))
    truth = data.splits.stores["val"]["mask"].numpy()
    wanted = iou_per_class(np.full_like(truth, 2), truth, 4)  # void is more frequent, but no class
    scores = majority_class(data, "val")
    assert scores["mIoU"] == pytest.approx(np.nanmean(wanted))
    assert scores["pixel_acc"] == pytest.approx((truth == 2).sum() / (truth != 255).sum())
    assert scores["IoU/dog"] == pytest.approx(wanted[2])
    assert scores["IoU/cat"] == 0
    assert "IoU/cow" not in scores


def test_the_majority_is_of_the_training_split() -> None:
    train, val = _store(0, 4), _store(1, 4)
    train["mask"][train["mask"] == 2] = 1
    scores = majority_class(_Data(train=train, val=val), "val")  # type: ignore[arg-type]
    assert scores["IoU/dog"] == 0
    assert scores["IoU/cat"] > 0


def test_mean_boxes_against_numpy() -> None:
    data: Any = _Data(train=_store(2, 40), val=_store(3, 10))
    train, val = (
        {key: data.splits.stores[split][key].numpy() for key in ("boxes", "labels", "difficult")}
        for split in ("train", "val")
    )
    known = [label for label in (1, 3) if (train["labels"] == label).any()]
    guess: Image = {
        "boxes": np.stack([train["boxes"][train["labels"] == k].mean(0) for k in known]),
        "labels": np.array(known),
        "scores": np.array([(train["labels"] == k).sum() for k in known], float),
    }
    truth = [
        {key: val[key][i][val["labels"][i] > 0] for key in ("boxes", "labels", "difficult")}
        for i in range(10)
    ]
    scores = mean_boxes(data, "val")
    assert scores["mAP"] == pytest.approx(mean_ap([guess] * 10, truth, 4, COCO_IOUS), abs=1e-6)
    assert scores["mAP50"] == pytest.approx(mean_ap([guess] * 10, truth, 4, [0.5]), abs=1e-6)
    assert scores["mAP50"] > 0.05
    assert {key for key in scores if "/" in key} == {"AP/cat", "AP/cow"}


def test_a_constant_object_is_found() -> None:
    """All objects alike: the mean box is right everywhere."""
    store = _store(0, 5)
    store["boxes"][:] = torch.tensor([2.0, 3.0, 12.0, 15.0])
    store["labels"][:] = torch.tensor([1, -1, -1, -1])
    store["difficult"][:] = False
    scores = mean_boxes(_Data(train=store, val=store), "val")  # type: ignore[arg-type]
    assert scores == {name: pytest.approx(1) for name in ("mAP", "mAP50", "AP/cat")}


def test_without_truth_the_scores_are_undefined() -> None:
    data: Any = _Data(train=_store(0, 4), val=_store(1, 4, has_boxes=False, has_mask=False))
    for scores in (majority_class(data, "val"), mean_boxes(data, "val")):
        assert len(scores) == 2
        assert all(math.isnan(value) for value in scores.values())


def test_without_anything_to_learn_from() -> None:
    """A training split without masks and boxes: background everywhere, and no box at all."""
    data: Any = _Data(train=_store(0, 4, has_boxes=False, has_mask=False), val=_store(1, 4))
    truth = data.splits.stores["val"]["mask"]
    wanted = (truth == 0).sum() / (truth != 255).sum()
    assert majority_class(data, "val")["pixel_acc"] == pytest.approx(wanted.item())
    assert mean_boxes(data, "val")["mAP"] == 0


def test_the_embedded_shapes(make_config: Any) -> None:
    """On real splits the scores are those of a predictor that has learned nothing."""
    from hydra.utils import instantiate

    from tests.conftest import TINY

    data = instantiate(make_config(*TINY).data, seed=0)
    data.setup()
    masks = data.splits.stores["val"]["mask"]
    scores = majority_class(data, "val")
    share = ((masks == 0).sum() / (masks != 255).sum()).item()
    assert scores["pixel_acc"] == pytest.approx(share)
    assert scores["mIoU"] == pytest.approx(share / len(torch.unique(masks[masks != 255])))
    assert 0 <= mean_boxes(data, "val")["mAP"] < 0.5
