from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multitask.metrics import (
    BoxScores,
    Detections,
    SegmentationScores,
    compute_scores,
    make_metrics,
    update_boxes,
)
from tests.multitask.reference import COCO_IOUS, Image, average_precision, iou_per_class, mean_ap

NAMES = ["background", "cat", "dog", "cow"]


# Segmentation


def _segmentation(guess: Tensor, truth: Tensor, classes: int) -> dict[str, Tensor]:
    metric = SegmentationScores(classes)
    for some, wanted in zip(guess.split(2), truth.split(2), strict=True):
        metric.update(some, wanted)
    return metric.compute()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("classes", [2, 21])
def test_segmentation_scores_against_numpy(classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(classes)
    shape = (5, 16, 16)
    truth = torch.randint(0, classes, shape, generator=generator)
    guess = torch.where(
        torch.rand(shape, generator=generator) < 0.6,
        truth,
        torch.randint(0, classes, shape, generator=generator),
    )
    truth[torch.rand(shape, generator=generator) < 0.2] = 255
    found = _segmentation(guess, truth.to(dtype), classes)
    wanted = iou_per_class(guess.numpy(), truth.numpy(), classes)
    np.testing.assert_allclose(found["iou"], wanted, rtol=1e-6)
    assert found["miou"].item() == pytest.approx(wanted.mean())
    known = truth != 255
    accuracy = (guess == truth)[known].double().mean().item()
    assert found["pixel_acc"].item() == pytest.approx(accuracy)


def test_the_set_counts_as_one_image() -> None:
    """VOC's IoU: 1 of 1 pixels in one image and 0 of 9 in another are 1 of 10, not the mean .5."""
    truth = torch.full((2, 3, 3), 255)
    truth[0, 0, 0] = 1
    truth[1] = 1
    guess = torch.zeros(2, 3, 3, dtype=torch.int64)
    guess[0] = 1
    found = _segmentation(guess, truth, 2)
    assert found["miou"].item() == pytest.approx(0.1)


def test_absent_classes_and_stray_predictions_of_them() -> None:
    """Class 2 does not occur: it is no part of the mean, but its pixels are missing elsewhere."""
    truth = torch.tensor([[[0, 0, 0, 0], [1, 1, 255, 255]]])
    guess = torch.tensor([[[0, 0, 0, 2], [1, 1, 2, 0]]])
    found = _segmentation(guess, truth, 4)
    assert found["iou"].tolist()[:2] == [0.75, 1.0]
    assert found["iou"].isnan().tolist() == [False, False, True, True]
    assert found["miou"].item() == pytest.approx((0.75 + 1) / 2)
    assert found["pixel_acc"].item() == pytest.approx(5 / 6)


def test_void_alone_is_undefined() -> None:
    truth = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    metrics = make_metrics(4, ["segmentation"])
    segmentation: Any = metrics["segmentation"]
    segmentation.update(torch.zeros(2, 4, 4, dtype=torch.int64), truth)
    scores = compute_scores(metrics, NAMES)
    assert set(scores) == {"mIoU", "pixel_acc"}
    assert all(math.isnan(value) for value in scores.values())


# Boxes


def _random_scene(seed: int, images: int = 12) -> tuple[list[Image], list[Image]]:
    """Detections and truth: objects found with some error, some missed, some invented."""
    draw = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(images):
        count = draw.integers(0, 6)
        corners = draw.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + draw.uniform(10, 40, (count, 2))], 1)
        labels = draw.integers(1, 4, count)
        truth.append({"boxes": boxes, "labels": labels, "difficult": draw.random(count) < 0.25})
        noise = boxes + draw.normal(0, 3, boxes.shape)
        noise[:, 2:] = np.maximum(noise[:, 2:], noise[:, :2] + 1)  # COCO knows no inverted boxes
        invented = np.concatenate([corners, corners + 12], 1)[: draw.integers(0, 3)]
        guess = np.concatenate([noise[draw.random(count) < 0.8], invented])
        found.append(
            {
                "boxes": guess,
                "scores": draw.random(len(guess)),
                "labels": np.resize(np.append(labels, 1), len(guess)),
            }
        )
    return found, truth


def _batch(truth: list[Image], has_boxes: list[bool] | None = None) -> dict[str, Tensor]:
    """The truth as a store keeps it, padded."""
    most = max(len(image["labels"]) for image in truth) + 1
    batch = {
        "boxes": torch.zeros(len(truth), most, 4),
        "labels": torch.full((len(truth), most), -1),
        "difficult": torch.zeros(len(truth), most, dtype=torch.bool),
        "has_boxes": torch.tensor(has_boxes or [True] * len(truth)),
    }
    for i, image in enumerate(truth):
        count = len(image["labels"])
        for key in ("boxes", "labels", "difficult"):
            batch[key][i, :count] = torch.as_tensor(image[key]).to(batch[key].dtype)
    return batch


def _detections(found: list[Image]) -> Detections:
    return [
        {
            "boxes": torch.as_tensor(image["boxes"]).float().reshape(-1, 4),
            "scores": torch.as_tensor(image["scores"]).float(),
            "labels": torch.as_tensor(image["labels"]),
        }
        for image in found
    ]


def _scores(
    found: list[Image], truth: list[Image], has_boxes: list[bool] | None = None
) -> dict[str, float]:
    metrics = make_metrics(4, ["detection"])
    detection: Any = metrics["detection"]
    update_boxes(detection, _detections(found), _batch(truth, has_boxes))
    return compute_scores(metrics, NAMES)


def _image(boxes: list[list[float]], labels: list[int], **more: list) -> Image:
    count = len(labels)
    extra = more or {"difficult": [False] * count}
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "labels": np.array(labels, int),
        **{key: np.array(value) for key, value in extra.items()},
    }


@pytest.mark.parametrize("seed", range(20))
def test_map_against_numpy(seed: int) -> None:
    found, truth = _random_scene(seed)
    scores = _scores(found, truth)
    assert scores["mAP"] == pytest.approx(mean_ap(found, truth, 4, COCO_IOUS), abs=1e-6)
    assert scores["mAP50"] == pytest.approx(mean_ap(found, truth, 4, [0.5]), abs=1e-6)
    assert 0.05 < scores["mAP"] < scores["mAP50"] < 1
    for label in (1, 2, 3):
        wanted = np.mean([average_precision(found, truth, label, iou) for iou in COCO_IOUS])
        assert scores[f"AP/{NAMES[label]}"] == pytest.approx(wanted, abs=1e-6)


SQUARES = [[0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10]]
FAR = [70.0, 70, 80, 80]


def test_ap50_by_hand() -> None:
    """Right, wrong, right, wrong; one of three objects is missed. Precision is 1 up to recall 1/3
    (34 of COCO's 101 points), 2/3 up to recall 2/3 (33 points), then 0."""
    found = _image([SQUARES[0], FAR, SQUARES[1], FAR], [1] * 4, scores=[0.9, 0.8, 0.7, 0.6])
    scores = _scores([found], [_image(SQUARES, [1, 1, 1])])
    assert scores["mAP50"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert scores["AP/cat"] == scores["mAP"] == pytest.approx(scores["mAP50"])  # exact boxes
    assert "AP/dog" not in scores


@pytest.mark.parametrize("detected", [True, False])
def test_difficult_objects_do_not_count(detected: bool) -> None:
    plain = _image(SQUARES[:2], [1, 1])
    harder = _image(SQUARES, [1, 1, 1], difficult=[False, False, True])
    hits = _image([SQUARES[0], FAR], [1, 1], scores=[0.9, 0.8])
    boxes = [SQUARES[0], FAR, *([SQUARES[2]] if detected else [])]
    both = _image(boxes, [1] * len(boxes), scores=[0.9, 0.8, 0.95][: len(boxes)])
    wanted = _scores([hits], [plain])
    assert _scores([both], [harder]) == wanted
    assert 0 < wanted["mAP"] < 1


def test_images_that_are_not_annotated_are_left_out() -> None:
    truth = [_image(SQUARES[:1], [1]), _image([], [])]
    right = _image(SQUARES[:1], [1], scores=[0.5])
    stray = _image([FAR], [1], scores=[0.9])
    assert _scores([right, stray], truth, [True, False])["mAP"] == pytest.approx(1)
    # An annotated image without objects is another matter: what is found there is wrong.
    assert _scores([right, stray], truth, [True, True])["mAP"] == pytest.approx(0.5)


def test_nothing_found_is_zero() -> None:
    scores = _scores([_image([], [], scores=[])], [_image(SQUARES, [1, 2, 2])])
    assert scores == {"mAP": 0, "mAP50": 0, "AP/cat": 0, "AP/dog": 0}


@pytest.mark.parametrize(
    ("truth", "annotated"),
    [
        (_image(SQUARES[:1], [1]), False),
        (_image([], []), True),
        (_image(SQUARES[:1], [1], difficult=[True]), True),
    ],
    ids=["not annotated", "no object", "only a difficult one"],
)
def test_nothing_to_find_is_undefined(
    truth: Image, annotated: bool, recwarn: pytest.WarningsRecorder
) -> None:
    scores = _scores([_image(SQUARES[:1], [1], scores=[0.9])], [truth], [annotated])
    assert set(scores) == {"mAP", "mAP50"}
    assert all(math.isnan(value) for value in scores.values())
    assert len(recwarn) == 0


def test_both_tasks_and_a_new_start() -> None:
    metrics: Any = make_metrics(4, ["segmentation", "detection"])
    for right in (True, False):
        mask = torch.ones(1, 4, 4, dtype=torch.int64)
        metrics["segmentation"].update(mask if right else mask + 1, mask)
        guess = _image(SQUARES[:1] if right else [FAR], [1], scores=[0.9])
        update_boxes(metrics["detection"], _detections([guess]), _batch([_image(SQUARES[:1], [1])]))
        scores = compute_scores(metrics, NAMES)
        names = {"mIoU", "pixel_acc", "IoU/cat", "mAP", "mAP50", "AP/cat"}
        assert scores == dict.fromkeys(names, pytest.approx(float(right)))


def test_many_boxes_are_no_reason_to_warn(recwarn: pytest.WarningsRecorder) -> None:
    boxes = np.tile(SQUARES[0], (150, 1))
    guess = {"boxes": boxes, "labels": np.ones(150, int), "scores": np.linspace(1, 0.1, 150)}
    assert _scores([guess], [_image(SQUARES[:1], [1])])["mAP"] == pytest.approx(1)
    assert [str(w.message) for w in recwarn if "detection" in str(w.message)] == []


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_box_scores_without_any_image() -> None:
    assert math.isnan(BoxScores().compute()["map"])


def test_recall_levels_are_cocos_own_in_double_precision() -> None:
    # in single precision the level of .6 is .6000000238, which a recall of 6/10 does not reach
    scores = BoxScores()
    boxes = torch.tensor([[0.0, 20.0 * i, 10.0, 20.0 * i + 10] for i in range(10)])
    found = torch.stack([torch.tensor([100.0, 0, 110, 10]), *boxes[:6]])
    order = torch.linspace(0.1, 0.9, 7)
    guess = {"boxes": found, "scores": order, "labels": torch.ones(7, dtype=torch.long)}
    truth = {"boxes": boxes, "labels": torch.ones(10, dtype=torch.long)}
    scores.update([guess], [truth])
    # six of ten are found without a mistake: 61 of the 101 levels are reached
    assert float(scores.compute()["map"]) == pytest.approx(61 / 101, abs=1e-7)
