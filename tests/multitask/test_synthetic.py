from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multitask.synthetic import CLASS_NAMES, MAX_OBJECTS, draw_image

COUNT, SIZE = 120, 96


def draw_split(split: str, count: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """The first images of a split, as a store of ``count`` rows."""
    drawn = [draw_image(split, i, size=size, seed=seed) for i in range(count)]
    return {field: np.stack([one[field] for one in drawn]) for field in drawn[0]}


@pytest.fixture(scope="module")
def train() -> dict[str, np.ndarray]:
    return draw_split("train", COUNT, SIZE, seed=0)


def test_shapes_and_types(train: dict[str, np.ndarray]) -> None:
    most = train["boxes"].shape[1]
    expected = {
        "image": ((COUNT, 3, SIZE, SIZE), np.uint8),
        "mask": ((COUNT, SIZE, SIZE), np.uint8),
        "boxes": ((COUNT, most, 4), np.float32),
        "labels": ((COUNT, most), np.int64),
        "difficult": ((COUNT, most), np.bool_),
        "has_mask": ((COUNT,), np.bool_),
        "has_boxes": ((COUNT,), np.bool_),
    }
    assert {k: (v.shape, v.dtype.type) for k, v in train.items()} == expected
    assert train["has_mask"].all()
    assert train["has_boxes"].all()
    assert not train["difficult"].any()


def test_same_arguments_same_pictures(train: dict[str, np.ndarray]) -> None:
    again = draw_split("train", COUNT, SIZE, seed=0)
    assert all(np.array_equal(train[key], again[key]) for key in train)


def test_splits_and_seeds_share_no_picture(train: dict[str, np.ndarray]) -> None:
    sets = [train, draw_split("train", 20, SIZE, 1)]
    sets += [draw_split(split, 20, SIZE, 0) for split in ("val", "test")]
    pictures = [picture.tobytes() for store in sets for picture in store["image"]]
    masks = [mask.tobytes() for store in sets for mask in store["mask"]]
    assert len(set(pictures)) == len(pictures)
    assert len(set(masks)) == len(masks)


@pytest.mark.parametrize("size", [48, 192])
def test_the_scene_is_the_same_at_every_size(train: dict[str, np.ndarray], size: int) -> None:
    other = draw_split("train", 20, size, seed=0)
    most = other["labels"].shape[1]
    assert np.array_equal(other["labels"], train["labels"][:20, :most])
    scaled = train["boxes"][:20, :most] * size / SIZE
    assert np.abs(other["boxes"] - scaled).max() <= 1 + size / SIZE
    coarse, fine = sorted((train["mask"][:20], other["mask"]), key=lambda m: m.shape[-1])
    assert (coarse == fine[:, ::2, ::2]).mean() > 0.97


def test_boxes_are_tight_around_what_can_be_seen(train: dict[str, np.ndarray]) -> None:
    checked = 0
    for mask, boxes, labels in zip(train["mask"], train["boxes"], train["labels"], strict=True):
        for label, box in zip(labels, boxes, strict=True):
            if (labels == label).sum() != 1 or label < 0:
                continue  # two objects of a class cannot be told apart in the mask
            rows, columns = np.nonzero(mask == label)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
            checked += 1
    assert checked > 100


def test_mask_and_labels_name_the_same_classes(train: dict[str, np.ndarray]) -> None:
    for mask, labels in zip(train["mask"], train["labels"], strict=True):
        assert set(np.unique(mask)) - {0} == set(labels[labels > 0])


def test_padding_comes_last_and_is_empty(train: dict[str, np.ndarray]) -> None:
    padding = train["labels"] == -1
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()
    assert (train["boxes"][padding] == 0).all()
    assert train["labels"][~padding].min() == 1
    assert train["labels"].max() == len(CLASS_NAMES) - 1


def test_every_object_can_be_seen(train: dict[str, np.ndarray]) -> None:
    boxes = train["boxes"][train["labels"] > 0]
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 4
    objects = (train["labels"] > 0).sum(1)
    assert objects.min() == 1
    assert objects.max() == MAX_OBJECTS


def test_classes_are_balanced_and_most_pixels_are_ground(train: dict[str, np.ndarray]) -> None:
    per_class = np.bincount(train["labels"][train["labels"] > 0], minlength=6)[1:]
    assert per_class.min() > 0.6 * per_class.mean()
    pixels = np.bincount(train["mask"].ravel(), minlength=6) / train["mask"].size
    assert 0.7 <= pixels[0] <= 0.82
    assert pixels[1:].min() > 0.6 * pixels[1:].mean()


def test_colour_alone_does_not_tell_the_class(train: dict[str, np.ndarray]) -> None:
    """The nearest mean colour of a class, fitted on these very objects, does little."""
    colours = train["image"].transpose(0, 2, 3, 1)[train["mask"] > 0].astype(np.float32)
    classes = train["mask"][train["mask"] > 0]
    means = np.stack([colours[classes == c].mean(0) for c in range(1, 6)])
    nearest = 1 + np.linalg.norm(colours[:, None] - means, axis=-1).argmin(1)
    accuracy = (nearest == classes).mean()
    assert 0.2 < accuracy < 0.7


def test_the_ground_is_textured(train: dict[str, np.ndarray]) -> None:
    spread = [
        image[:, mask == 0].std(1).mean()
        for image, mask in zip(train["image"], train["mask"], strict=True)
    ]
    assert np.quantile(spread, 0.1) > 6


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("training", 1, 32, 0), "train, val, test"),
        (("train", 1, 8, 0), "size"),
        (("train", 1, 32, -1), "seed"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw_split(*arguments)
