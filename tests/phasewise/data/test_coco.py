from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as reference
from PIL import ExifTags, Image, ImageDraw

from phasewise.data.annotated import Annotations
from phasewise.data.coco import outline_mask, read_coco
from phasewise.errors import BadSample, UserError
from tests.phasewise.data.folders import problems_of, warnings_of

WIDTH, HEIGHT = 40, 30
TRIANGLE = [4.0, 6.0, 30.0, 6.0, 4.0, 26.0]


def write(
    root: Path, annotations: list[dict[str, Any]], file: str = "a.json", **image: Any
) -> None:
    """``1.jpg``, ``2.jpg``, ... beside a JSON, and what is annotated on them."""
    keys = sorted({it["image_id"] for it in annotations})
    for key in keys:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save((root / file).parent / f"{key}.jpg")
    images = [{"id": key, "file_name": f"{key}.jpg", **image} for key in keys]
    kinds = [{"id": 3, "name": "cat"}]
    found = [{"id": i, "category_id": 3, **it} for i, it in enumerate(annotations)]
    content = {"images": images, "annotations": found, "categories": kinds}
    (root / file).write_text(json.dumps(content))


def read(root: Path, annotations: str = "a.json", **more: Any) -> Annotations:
    return read_coco(root, annotations=annotations, **more)


def runs(mask: np.ndarray[Any, Any]) -> list[int]:
    """Column by column, how many are false, true, false, ..."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *counts] if flat[0] else counts


def ellipse() -> np.ndarray[Any, Any]:
    image = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).ellipse((8, 3, 25, 20), fill=1)
    return np.asarray(image)


def test_an_annotation_without_bbox_has_the_box_of_its_outline(tmp_path: Path) -> None:
    mask = ellipse()
    compressed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    plain = {"counts": runs(mask), "size": [HEIGHT, WIDTH]}
    outlines: list[Any] = [[TRIANGLE, [0, 0, 2, 0, 2, 2]], plain, compressed]
    write(tmp_path, [{"image_id": i, "segmentation": it} for i, it in enumerate(outlines)])
    found = read(tmp_path)
    assert not found.problems
    boxes = [image.objects[0].box for image in found.images.values()]
    assert boxes == [(0, 0, 30, 26), (8, 3, 26, 21), (8, 3, 26, 21)]
    for name in ("1.jpg", "2.jpg"):
        outline = found.images[name].objects[0].outline
        assert outline is not None
        assert np.array_equal(outline_mask(outline, found.images[name]), mask)


def test_polygons_are_filled(tmp_path: Path) -> None:
    write(tmp_path, [{"image_id": 1, "segmentation": [TRIANGLE]}])
    image = read(tmp_path).images["1.jpg"]
    assert image.objects[0].outline is not None
    mask = outline_mask(image.objects[0].outline, image)
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.sum() == pytest.approx(26 * 20 / 2, rel=0.05)
    assert mask[7, 5] and mask[7, 26] and mask[24, 5] and not mask[24, 20]


@pytest.mark.parametrize(
    "outline", [{"counts": [3, 4], "size": [HEIGHT, WIDTH]}, {"size": [1, 1]}, [["a"]], [[]], "x"]
)
def test_damaged_outlines_are_told(tmp_path: Path, outline: Any) -> None:
    write(tmp_path, [{"image_id": 1, "segmentation": outline}])
    found = read(tmp_path)
    assert problems_of(found)["1.jpg"].startswith("annotation 0: no bbox, and ")
    write(tmp_path, [{"image_id": 1, "segmentation": outline, "bbox": [1, 1, 9, 9]}])
    image = read(tmp_path).images["1.jpg"]
    assert image.objects[0].box == (1, 1, 10, 10)
    if outline != [[]]:
        with pytest.raises(BadSample, match="an outline cannot be read"):
            outline_mask(outline, image)


def test_an_outline_of_another_size_is_refused(tmp_path: Path) -> None:
    outline = {"counts": [0, 12], "size": [3, 4]}
    write(tmp_path, [{"image_id": 1, "segmentation": outline, "bbox": [1, 1, 9, 9]}])
    with pytest.raises(BadSample, match="an outline is of 4x3 pixels, not 40x30"):
        outline_mask(outline, read(tmp_path).images["1.jpg"])


def test_crowds_are_objects_where_everything_is_one(tmp_path: Path) -> None:
    box = [1, 1, 9, 9]
    write(tmp_path, [{"image_id": i, "bbox": box, "iscrowd": 1} for i in range(3)])
    found = read(tmp_path)
    assert [[it.is_crowd for it in image.objects] for image in found.images.values()] == [
        [False]
    ] * 3
    assert warnings_of(found)[0].startswith("a.json: all 3 annotations are crowds (iscrowd=1)")
    crowds = [
        image.objects[0].is_crowd for image in read(tmp_path, crowds="ignore").images.values()
    ]
    assert crowds == [True] * 3


def test_crowds_beside_objects_are_none_unless_asked_for(tmp_path: Path) -> None:
    box = [1, 1, 9, 9]
    marks = [{"image_id": i, "bbox": box, "iscrowd": int(i == 2)} for i in range(3)]
    write(tmp_path, [*marks, {"image_id": 0, "iscrowd": 1, "bbox": "damaged"}])
    found = read(tmp_path)
    assert not found.problems
    assert [[it.is_crowd for it in image.objects] for image in found.images.values()] == [
        [False], [False], [True]
    ]  # fmt: skip
    assert warnings_of(found)[0].startswith("a.json: 2 of 4 annotations are crowds (iscrowd=1) and")
    write(tmp_path, marks)
    found = read(tmp_path, crowds="objects")
    assert not any(it.is_crowd for image in found.images.values() for it in image.objects)
    with pytest.raises(UserError, match=r"data\.crowds='all' is none of auto, objects, ignore"):
        read(tmp_path, crowds="all")


def test_boxes_for_another_size_are_scaled_and_told(tmp_path: Path) -> None:
    write(tmp_path, [{"image_id": 1, "bbox": [2, 2, 10, 10]}], width=20, height=15)
    found = read(tmp_path)
    assert found.images["1.jpg"].objects[0].box == (4, 4, 24, 24)
    assert warnings_of(found) == [
        "a.json: 1 of 1 images: boxes are for another size of the image: scaled (1.jpg)"
    ]
    write(tmp_path, [{"image_id": 1, "bbox": [12, 2, 10, 10]}], width=20, height=15)
    assert "lies outside the image 0..20" in problems_of(read(tmp_path))["1.jpg"]


def test_names_from_another_computer_are_found_by_their_last_part(tmp_path: Path) -> None:
    write(tmp_path, [{"image_id": i, "bbox": [2, 2, 10, 10]} for i in range(3)])
    content = json.loads((tmp_path / "a.json").read_text())
    names = ["C:\\Users\\me\\0.jpg", "../../label-studio/media/1.jpg", "/export/gone.jpg"]
    for entry, name in zip(content["images"], names, strict=True):
        entry["file_name"] = name
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read(tmp_path)
    assert list(found.images) == ["0.jpg", "1.jpg"]
    assert problems_of(found) == {
        "/export/gone.jpg": "an absolute path; it must be relative to data.root"
    }
    assert "2 of 2 images: named elsewhere" in warnings_of(found)[0]
    content["images"][2]["file_name"] = "other/1.jpg"  # which of the two is meant?
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert list(read(tmp_path).images) == ["0.jpg"]


def test_images_that_no_json_lists_are_counted(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        write(tmp_path, [{"image_id": 1, "bbox": [2, 2, 9, 9]}], f"{folder}/_annotations.coco.json")
    for name in ("b.jpg", "c.png", ".d.jpg", "e.txt"):
        (tmp_path / "val" / name).write_bytes(b"")
    (tmp_path / "f.jpg").write_bytes(b"")  # in a folder that none of them is in
    found = read(tmp_path, "*/_annotations.coco.json")
    assert found.lists == {"train": {"train/1.jpg": None}, "val": {"val/1.jpg": None}}
    assert warnings_of(found) == [
        "*/_annotations.coco.json: 2 of 4 images: not in the annotations, not used "
        "(val/b.jpg, val/c.png)"
    ]


def test_an_export_is_found_without_its_path(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        write(tmp_path, [{"image_id": 1, "bbox": [2, 2, 9, 9]}], f"{folder}/_annotations.coco.json")
    found = read(tmp_path, "annotations")
    assert {split: list(names) for split, names in found.lists.items()} == {
        "train": ["train/1.jpg"], "val": ["valid/1.jpg"]
    }  # fmt: skip
    assert "read instead: train/_annotations.coco.json, valid/" in warnings_of(found)[0]
    found = read(tmp_path, "train/_annotations.coco.json")
    assert [*found.lists] == ["all"]
    assert "there is also valid/_annotations.coco.json, not read" in warnings_of(found)[0]


@pytest.mark.parametrize(
    ("orientation", "size", "told"),
    [(6, (30, 40), False), (6, (30, 30), True), (3, (40, 30), True), (1, (30, 30), False)],
)
def test_turns_that_no_size_tells_are_noted(
    tmp_path: Path, orientation: int, size: tuple[int, int], told: bool
) -> None:
    upright = size[::-1] if orientation >= 5 else size
    box = {"image_id": 1, "bbox": [2, 2, 9, 9]}
    write(tmp_path, [box], width=upright[0], height=upright[1])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size).save(tmp_path / "1.jpg", exif=exif)
    found = read(tmp_path)
    assert found.images["1.jpg"].objects[0].box == (2, 2, 11, 11)
    reason = "EXIF turns them, and no size tells for which side up boxes are: taken as upright"
    assert warnings_of(found) == [f"a.json: 1 of 1 images: {reason} (1.jpg)"] * told
