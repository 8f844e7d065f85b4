"""What a loader of somebody's own may yield, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from multitask import MultitaskModule
from phasewise.errors import UserError
from tests.multitask.plain import (
    NONE,
    SIDE,
    WHOLE,
    boxes,
    module,
)


@pytest.fixture(scope="module")
def built() -> MultitaskModule:
    return module()


def test_padded_boxes_are_those_of_the_lists() -> None:
    lists: dict[str, Any] = {
        "boxes": [torch.tensor([[1.0, 2, 30, 40], [5, 5, 9, 9]]), torch.zeros(0, 4)],
        "labels": [torch.tensor([2, 1]), torch.zeros(0, dtype=torch.long)],
        "difficult": [torch.tensor([False, True]), torch.zeros(0, dtype=torch.bool)],
    }
    padded = {
        "boxes": torch.stack([lists["boxes"][0], torch.full((2, 4), torch.nan)]),
        "labels": torch.tensor([[2, 1], [0, -1]]),
        "difficult": torch.tensor([[False, True], [True, True]]),
    }
    images, built = torch.zeros(2, 3, SIDE, SIDE), module()
    found, same = (built.prepare_targets(batch, images) for batch in (lists, padded))
    assert found.keys() == same.keys()
    assert all(torch.equal(found[key], same[key]) for key in found)
    assert (found["mask"] == 255).all()
    assert found["labels"].tolist() == [[2, 1], [-1, -1]]
    assert found["has_boxes"].tolist() == [True, True]
    lists = {key: [value[0], None] for key, value in lists.items()}
    found = built.prepare_targets(lists, images)
    assert found["has_boxes"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": None}, "batch['image'] is a NoneType, not a tensor"),
        ({"image": torch.rand(2, 3, 96, 96)}, "batch['image'] has 96x96 pixels"),
        ({"image": torch.rand(2, 3, SIDE, SIDE) * 9}, "batch['image'] has values from"),
        ({"mask": torch.zeros(2, 9, 9).long()}, "batch['mask'] has the shape (2, 9, 9)"),
        ({"mask": torch.zeros(2, SIDE, SIDE)}, "batch['mask'] is of torch.float32"),
        (
            {"mask": torch.full((2, SIDE, SIDE), 3)},
            "batch['mask'][0] holds 3; the classes are 0 to 2",
        ),
        ({"boxes": [None]}, "batch['boxes'] has 1 entries for 2 images"),
        ({"labels": torch.tensor([[1]])}, "batch['labels'] is a Tensor; like 'boxes'"),
        ({"boxes": 3}, "batch['boxes'] is a int"),
        ({"boxes": [None, None]}, "batch['labels'][0] is Tensor, but batch['boxes'][0] is None"),
        ({"boxes": [[], None]}, "batch['boxes'][0] is a list, not a tensor or None"),
        ({"boxes": [torch.zeros(1, 5), None]}, "batch['boxes'][0] has the shape (1, 5)"),
        ({"labels": [torch.tensor([1, 2]), NONE]}, "batch['labels'][0] has the shape (2,)"),
        ({"labels": [torch.tensor([1.0]), NONE]}, "batch['labels'][0] is of torch.float32"),
        ({"labels": [torch.tensor([3]), NONE]}, "batch['labels'][0] holds 3; the classes of boxes"),
        ({"labels": [torch.tensor([0]), NONE]}, "batch['labels'][0] holds 0"),
        (boxes(9, 1, 5, 9), "batch['boxes'][1] has (9, 1, 5, 9), x2 < x1"),
        (boxes(1, 1, 5, float("nan")), "batch['boxes'][1] has (1, 1, 5, nan), not finite"),
        (boxes(1, 1, 5, 99), "batch['boxes'][1] has (1, 1, 5, 99), not inside of the image"),
        ({"difficult": [torch.tensor([0.5]), NONE]}, "batch['difficult'][0] is of torch.float32"),
        ({"boxes": torch.zeros(2, 1, 4)}, "batch['labels'] is a list, not a tensor"),
        (
            {"boxes": torch.zeros(2, 1, 4), "labels": torch.full((2, 1), 7)},
            "batch['labels'][0] holds 7",
        ),
        ({"labels": ...}, "the batch has no 'labels'"),
        ({"boxes": ...}, "the batch has no 'boxes'"),
        ({"mask": ..., "boxes": ..., "labels": ...}, "the batch has neither 'mask' ("),
    ],
)
def test_a_wrong_batch_is_refused_in_one_line(
    change: dict[str, Any], told: str, built: MultitaskModule
) -> None:
    batch = {key: value for key, value in {**WHOLE, **change}.items() if value is not ...}
    with pytest.raises(UserError) as error:
        built.training_step(batch, 0)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_without_a_head_its_truth_is_not_asked_for() -> None:
    alone = module(detection_head="none")
    images = WHOLE["image"]
    assert set(alone.prepare_targets({"mask": WHOLE["mask"]}, images)) == {"mask"}
    with pytest.raises(UserError, match="the batch has no 'mask'"):
        alone.prepare_targets({key: WHOLE[key] for key in ("boxes", "labels")}, images)


def test_a_box_that_ends_a_pixel_outside_is_cut_off(built: MultitaskModule) -> None:
    found = built.prepare_targets(boxes(-0.5, 3, 64.5, 9), WHOLE["image"])
    assert found["boxes"][1, 0].tolist() == [0, 3, 64, 9]
