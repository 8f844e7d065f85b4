"""What tools and scripts write that could be taken for something else: refused, or told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phasewise.data.annotated import Annotations
from phasewise.data.coco import outline_mask, read_coco
from phasewise.data.frame import as_stored
from phasewise.data.images import read_mask
from phasewise.data.listed import same_but_for_case
from phasewise.data.near import near_across, thumbnails_of
from phasewise.data.voc import read_voc
from phasewise.data.yolo import read_yolo
from phasewise.errors import BadSample, UserError

SIZE = (64, 48)
CORNERS = [20, 10, 50, 10, 50, 30, 20, 30]
OBJECT = {"bbox": [20, 10, 30, 20], "area": 600, "segmentation": [CORNERS], "category_id": 1}


def photograph(path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, "gray").save(path, **options)


def coco(root: Path, *, categories: Any = None, ids: type = int, **changes: Any) -> Annotations:
    for i in (1, 2):
        photograph(root / f"{i}.jpg")
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2)],
        "annotations": [{**OBJECT, "id": i, "image_id": ids(i), **changes} for i in (1, 2)],
        "categories": categories or [{"id": 1, "name": "cat"}],
    }
    (root / "a.json").write_text(json.dumps(content))
    return read_coco(root, annotations="a.json")


def notes(found: Any) -> str:
    return "\n".join(note.reason for note in found.warnings)


# --- COCO -----------------------------------------------------------------------------------------


def test_boxes_of_coco_as_they_should_be(tmp_path: Path) -> None:
    found = coco(tmp_path)
    assert found.images["1.jpg"].objects[0].box == (20, 10, 50, 30)
    assert not found.warnings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bbox": [20, 10, 50, 30]}, "as segmentation shows; COCO's are x, y, width, height"),
        ({"bbox": [5, 4, 30, 20], "area": 400, "segmentation": []}, "as area shows; COCO's are"),
        ({"bbox": [0.3, 0.2, 0.4, 0.4], "segmentation": []}, "above 1: fractions; COCO's are"),
        ({"ids": str}, "no annotation is of an image that it lists: image_id '1', id 1"),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
            "category id 1 is 'cat' and 'dog'",
        ),
    ],
)
def test_other_boxes_and_numbers_are_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        coco(tmp_path, **changes)
    assert told in str(error.value)


def test_boxes_that_may_be_right_are_read(tmp_path: Path) -> None:
    """Areas of masks are smaller than those of their boxes; one pixel is no fraction."""
    assert coco(tmp_path, area=311, segmentation=[]).images["2.jpg"].objects
    assert coco(tmp_path, bbox=[0, 0, 1, 1], segmentation=[]).images["2.jpg"].objects


def test_outlines_elsewhere_and_classes_of_one_name_are_told(tmp_path: Path) -> None:
    found = coco(tmp_path, segmentation=[[1, 1, 9, 1, 9, 9]])
    assert notes(found) == "2 of 2 objects looked at have their outline outside their bbox"
    found = coco(tmp_path, categories=[{"id": 1, "name": "cat"}, {"id": 4, "name": "cat"}])
    assert notes(found) == "several categories are called cat: one class each"


@pytest.mark.parametrize("outline", [[CORNERS[:7]], [CORNERS[:4]], CORNERS])
def test_what_is_no_polygon_is_refused(outline: Any, tmp_path: Path) -> None:
    image = coco(tmp_path, segmentation=outline).images["1.jpg"]
    with pytest.raises(BadSample, match="a polygon is a list of x, y, three times or more"):
        outline_mask(outline, image)


# --- all readers ----------------------------------------------------------------------------------


def test_an_object_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .4 .4\n" * 2 + "1 .5 .5 .4 .4\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\nnc: 3\n")
    found = read_yolo(tmp_path)
    assert [it.class_name for it in found.images["images/a.jpg"].objects] == ["cat", "dog"]
    assert "2 of 2 images: the same object is there more than once" in notes(found)
    assert "nc is 3, and names has 2 classes" in notes(found)


def test_classes_that_differ_in_case_only_are_told() -> None:
    assert not same_but_for_case(["background", "cat", "dog"])
    (note,) = same_but_for_case(["background", "Red  cat", "dog", "red cat"])
    assert note.reason == "'Red  cat' and 'red cat' are read as 2 classes"


def test_a_mask_as_the_image_is_stored_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    photograph(tmp_path / "turned.jpg", exif=exif.tobytes())
    photograph(tmp_path / "plain.jpg")
    assert "turn the mask" in as_stored(SIZE, SIZE[::-1], tmp_path / "turned.jpg")
    assert not as_stored(SIZE, SIZE[::-1], tmp_path / "plain.jpg")
    assert not as_stored((9, 9), SIZE[::-1], tmp_path / "turned.jpg")


# --- VOC ------------------------------------------------------------------------------------------

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object></annotation>"
)


def voc(root: Path, edges: tuple[float, ...], mask: Callable[[Path], None] | None = None) -> None:
    for i in range(8):
        photograph(root / "JPEGImages" / f"{i}.jpg")
        for folder in ("Annotations", "SegmentationClass"):
            (root / folder).mkdir(exist_ok=True)
        (root / "Annotations" / f"{i}.xml").write_text(XML.format(*edges))
        if mask is not None:
            mask(root / "SegmentationClass" / str(i))


def test_fractions_in_voc_are_refused(tmp_path: Path) -> None:
    voc(tmp_path, (0.3, 0.2, 0.8, 0.6))
    with pytest.raises(UserError, match="no number of a bndbox is above 1: fractions"):
        read_voc(tmp_path, split_seed=0)


def transparent(path: Path) -> None:
    mask = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (20, 10, 50, 30))
    mask.save(path.with_suffix(".png"))


def lossy(path: Path) -> None:
    Image.new("L", SIZE).save(path.with_suffix(".jpg"))


@pytest.mark.parametrize(
    ("mask", "told"),
    [(transparent, "save it without transparency"), (lossy, "data.mask_values=none")],
)
def test_masks_that_cannot_tell_are_refused(
    mask: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    voc(tmp_path, (21, 11, 50, 30), mask)
    with pytest.raises(UserError, match=told):
        read_voc(tmp_path, split_seed=0)


def white_is_zero(path: Path) -> None:
    mask = Image.new("P", SIZE)
    mask.putpalette([255, 255, 255, 0, 0, 0])
    mask.paste(1, (20, 10, 50, 30))
    mask.save(path.with_suffix(".png"))


def test_a_palette_that_shows_zero_as_white_is_refused(tmp_path: Path) -> None:
    white_is_zero(tmp_path / "a")
    with pytest.raises(BadSample, match="palette has white for 0 and black for 1"):
        read_mask(tmp_path / "a.png")


def test_an_object_twice_in_voc_is_told(tmp_path: Path) -> None:
    voc(tmp_path, (21, 11, 50, 30))
    file = tmp_path / "Annotations" / "3.xml"
    text = file.read_text()
    start, end = text.index("<object>"), text.index("</annotation>")
    file.write_text(text[:end] + text[start:end] + text[end:])
    told = "1 of 8 images have an object twice: it counts twice (3)"
    assert told in notes(read_voc(tmp_path, split_seed=0))


def test_names_in_yolo_that_are_none_or_the_same(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .4 .4\n1 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text("names: [cat, cat]\n")
    found = read_yolo(tmp_path)
    assert found.class_names == ["cat"]
    assert "several classes are called cat: one class each" in notes(found)
    (tmp_path / "data.yaml").write_text("names:\n- cat: 0\n- dog: 1\n")
    with pytest.raises(UserError, match="names must be a list, or a mapping"):
        read_yolo(tmp_path)


# --- look-alikes ----------------------------------------------------------------------------------


def test_look_alikes_across_splits() -> None:
    import torch

    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(40, 3, 6, 6, generator=random)
    images = torch.nn.functional.interpolate(coarse, size=48, mode="bicubic").clamp(0, 1)
    images[33] = 0.9 * images[4].flip(-1)  # mirrored, and darker
    stored = (images * 255).to(torch.uint8)
    thumbnails = {"train": thumbnails_of(stored[:30]), "val": thumbnails_of(stored[30:])}
    assert near_across(thumbnails) == {("train", "val"): [(4, 3)]}
    grey = np.asarray(Image.fromarray(stored[0].permute(1, 2, 0).numpy()).convert("F"))
    means = grey[:45, :45].reshape(9, 5, 9, 5).mean((1, 3))
    exact = thumbnails_of(stored[:1, :, :45, :45])[0]
    np.testing.assert_allclose(exact, means, atol=1.0)
