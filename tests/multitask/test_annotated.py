"""Boxes and masks of COCO's JSON and YOLO's text files, compared with what was drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from multitask.annotated import CocoData, YoloData
from phasewise.errors import UserError
from phasewise.records.record import read_record
from phasewise.training.run import train
from tests.conftest import TINY

SIZE = (40, 30)
Box = tuple[int, int, int, int]
DOG: Box = (4, 2, 24, 20)
CAT: Box = (14, 12, 34, 28)
TINY_DATA = [word for word in TINY if "_images" not in word]


def polygon(box: Box) -> list[list[int]]:
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def runs(box: Box, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """COCO's run lengths, uncompressed: down the columns, background first."""
    mask = np.zeros(size[::-1], bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff(np.concatenate([[0], ends, [len(flat)]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": [size[1], size[0]]}


def entry(category: int, box: Box, segmentation: Any = None, crowd: int = 0) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    found = {"category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": crowd}
    return found | ({} if segmentation is None else {"segmentation": segmentation})


def coco(root: Path, *objects: Sequence[dict[str, Any]], copies: int = 4) -> None:
    """``copies`` images of each of these lists of objects."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for mine in [each for each in objects for _ in range(copies)]:
        key = len(images) + 1
        (root / "images").mkdir(exist_ok=True)
        Image.new("RGB", SIZE, (key, 0, 0)).save(root / "images" / f"{key:02d}.png")
        images.append({"id": key, "file_name": f"{key:02d}.png", "width": 40, "height": 30})
        for one in mine:
            annotations.append({"id": len(annotations) + 1, "image_id": key} | one)
    names = ["animals", "dog", "cat"]  # Roboflow's first category has no object
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    (root / "annotations.json").write_text(json.dumps(content))


def read(root: Path, **settings: Any) -> CocoData:
    settings = {"image_size": 40, "resize": "letterbox"} | settings
    data = CocoData(
        root=str(root), annotations="annotations.json", cache_dir=str(root / "cache"), **settings
    )
    data.setup()
    return data


def rows(data: Any) -> dict[str, dict[str, np.ndarray]]:
    """Fields of each image, of the part of the square that shows it."""
    found = {}
    for split, store in data.splits.stores.items():
        for row, name in enumerate(data.splits.names[split]):
            keys = ("mask", "boxes", "labels", "difficult", "has_mask", "has_boxes")
            one = {key: np.asarray(store[key][row]) for key in keys}
            one["mask"] = one["mask"][5:35]  # letterbox of 40x30 in 40x40
            found[name] = one
    return found


def drawn(*layers: tuple[Box, int]) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for (x1, y1, x2, y2), index in layers:
        mask[y1:y2, x1:x2] = index
    return mask


def square(box: Box) -> tuple[int, ...]:
    return (box[0], box[1] + 5, box[2], box[3] + 5)


@pytest.mark.parametrize("outline", [polygon, runs])
def test_masks_are_painted_from_outlines_the_smaller_on_top(
    tmp_path: Path, outline: Callable[[Box], Any]
) -> None:
    coco(tmp_path, [entry(2, CAT, outline(CAT)), entry(1, DOG, outline(DOG))])
    data = read(tmp_path)
    assert data.splits.class_names == ["background", "dog", "cat"]
    assert (DOG[2] - DOG[0]) * (DOG[3] - DOG[1]) > (CAT[2] - CAT[0]) * (CAT[3] - CAT[1])
    for one in rows(data).values():
        np.testing.assert_array_equal(one["mask"], drawn((DOG, 1), (CAT, 2)))
        assert [tuple(box) for box in one["boxes"]] == [square(CAT), square(DOG)]
        assert one["labels"].tolist() == [2, 1]
        assert one["has_mask"] and one["has_boxes"]


def test_boxes_alone_give_no_masks(tmp_path: Path) -> None:
    coco(tmp_path, [entry(1, DOG)])
    data = read(tmp_path)
    assert not any(one["has_mask"] for one in rows(data).values())
    assert "no object has an outline" in str(data.splits.warnings)


def test_an_object_without_an_outline_is_void_and_none_is_background(tmp_path: Path) -> None:
    coco(tmp_path, [entry(1, DOG), entry(2, CAT, polygon(CAT))], [], copies=3)
    data = read(tmp_path)
    found = rows(data)
    np.testing.assert_array_equal(found["images/01.png"]["mask"], drawn((DOG, 255), (CAT, 2)))
    np.testing.assert_array_equal(found["images/06.png"]["mask"], drawn())
    assert found["images/06.png"]["has_mask"] and found["images/06.png"]["has_boxes"]
    told = " ".join(map(str, data.splits.warnings))
    assert "3 of 6 objects have no outline: their boxes are void" in told
    assert "3 of 6 have no object: they train as background" in told


def test_crowds_are_difficult(tmp_path: Path) -> None:
    coco(tmp_path, [entry(1, DOG, polygon(DOG)), entry(2, CAT, runs(CAT), crowd=1)])
    for one in rows(read(tmp_path)).values():
        assert one["difficult"].tolist() == [False, True]
    for one in rows(read(tmp_path, crowds="objects")).values():
        assert one["difficult"].tolist() == [False, False]


def test_outlines_are_part_of_the_data(tmp_path: Path) -> None:
    coco(tmp_path, [entry(1, DOG, polygon(DOG))])
    one = read(tmp_path).identity().hash
    coco(tmp_path, [entry(1, DOG, polygon((4, 2, 24, 19)))])
    assert read(tmp_path).identity().hash != one


def test_no_object_at_all_is_refused(tmp_path: Path) -> None:
    coco(tmp_path, [])
    with pytest.raises(UserError, match="its annotations name 0 classes of objects"):
        read(tmp_path)


@pytest.mark.parametrize("polygons", [False, True])
def test_yolo(tmp_path: Path, polygons: bool) -> None:
    (tmp_path / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [dog, cat]\n")
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / split / folder).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", SIZE, (i, 0, 0)).save(tmp_path / split / "images" / f"{i}.png")
            x1, y1, x2, y2 = CAT
            box = ((x1 + x2) / 80, (y1 + y2) / 60, (x2 - x1) / 40, (y2 - y1) / 30)
            corners = [v / (40, 30)[n % 2] for n, v in enumerate(polygon(CAT)[0])]
            words = " ".join(map(str, (1, *(corners if polygons else box))))
            (tmp_path / split / "labels" / f"{i}.txt").write_text(words + "\n")
    data = YoloData(
        root=str(tmp_path), cache_dir=str(tmp_path / "cache"), image_size=40, resize="letterbox"
    )
    data.setup()
    assert data.splits.class_names == ["background", "cat"]
    for one in rows(data).values():
        np.testing.assert_allclose(one["boxes"], [square(CAT)], atol=1e-4)
        assert bool(one["has_mask"]) == polygons
        if polygons:
            np.testing.assert_array_equal(one["mask"], drawn((CAT, 1)))


def test_a_run_on_coco(tmp_path: Path, make_config: Callable[..., DictConfig]) -> None:
    coco(tmp_path, [entry(2, CAT, runs(CAT)), entry(1, DOG, polygon(DOG))])
    words = (f"data.root={tmp_path}", "data.annotations=annotations.json")
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    train(make_config("data=coco", *TINY_DATA, *words, cache), tmp_path / "run")
    record = read_record(tmp_path / "run")
    assert record is not None
    assert record.status == "completed"
    assert {"val/IoU/dog", "val/AP/cat"} <= record.last.keys()
