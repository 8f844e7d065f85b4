"""Masks are found beside their images as tools lay them out, and never by order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phasewise.data.images import Resize
from phasewise.errors import UserError
from segmentation.image_mask import load, read_image_mask
from segmentation.meaning import Meaning
from tests.phasewise.data.folders import problems_of, warnings_of

NAMES = ("a", "b", "c1", "c10", "d")


def _size(name: str) -> tuple[int, int]:
    """Tells which image a mask belongs to."""
    return (16 + NAMES.index(name), 12)


def _write(path: Path, name: str, *, mask: bool, column: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = _size(name)
    values = np.zeros((height, width) if mask else (height, width, 3), np.uint8)
    values[2:5, column] = 255
    Image.fromarray(values).save(path)


def _read(root: Path) -> tuple[list[Any], list[str]]:
    """All samples by name, and what is told."""
    listing = read_image_mask(root, split_seed=0)
    assert listing.problems == []
    found = [sample for part in listing.samples.values() for sample in part]
    return sorted(found, key=lambda it: it.name), warnings_of(listing)


@pytest.mark.parametrize(
    ("image", "mask", "told"),
    [
        ("{}", "{}_segmentation", "all names are NAME_segmentation; paired with the images NAME"),
        ("{}", "{}_cp_masks", "all names are NAME_cp_masks; paired with the images NAME"),
        ("{}", "mask_{}", "all names are mask_NAME; paired with the images NAME"),
        ("{}", "{}_mask", "all names end in _mask; paired with the images without it"),
        (
            "{}_img",
            "{}_masks",
            "all names are NAME_masks, those of the images NAME_img; paired by NAME",
        ),
        (
            "img-{}.x",
            "gt-{}",
            "all names are gt-NAME, those of the images img-NAME.x; paired by NAME",
        ),
    ],
)
def test_names_with_something_around_them(tmp_path: Path, image: str, mask: str, told: str) -> None:
    for name in NAMES:
        _write(tmp_path / "images" / f"{image.format(name)}.png", name, mask=False)
        _write(tmp_path / "masks" / f"{mask.format(name)}.png", name, mask=True)
    samples, warnings = _read(tmp_path)
    assert warnings == [f"masks: {told}"]
    found = {it.image.stem: it.mask.stem for it in samples}
    assert found == {image.format(name): mask.format(name) for name in NAMES}


def test_names_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        _write(tmp_path / "images" / f"{name}.png", name, mask=False)
        _write(tmp_path / "masks" / f"{number}.png", name, mask=True)
    with pytest.raises(UserError, match="has no mask of this name"):
        read_image_mask(tmp_path, split_seed=0)


@pytest.mark.parametrize("folder", ["", "images"])
@pytest.mark.parametrize(
    ("image", "mask"), [("{}", "{}_mask"), ("{}_img", "{}_masks"), ("{}", "mask_{}")]
)
def test_images_and_masks_in_one_folder(tmp_path: Path, folder: str, image: str, mask: str) -> None:
    for name in NAMES:
        _write(tmp_path / folder / f"{image.format(name)}.jpg", name, mask=False)
        _write(tmp_path / folder / f"{mask.format(name)}.png", name, mask=True)
    samples, warnings = _read(tmp_path)
    assert warnings[0].endswith(": images and masks lie in one folder")
    found = {it.image.stem: it.mask.stem for it in samples}
    assert found == {image.format(name): mask.format(name) for name in NAMES}


def test_folders_of_classes(tmp_path: Path) -> None:
    for name, home in zip(NAMES, ("x", "x", "y", "y", "z/deep"), strict=True):
        _write(tmp_path / "images" / home / f"{name}.png", name, mask=False)
        _write(tmp_path / "masks" / home / f"{name}_mask.png", name, mask=True)
    (tmp_path / "train.txt").write_text("x/a.png\nimages/y/c1.png\nx/b\n")
    (tmp_path / "val.txt").write_text("z/deep/d\ny/c10\n")
    samples, warnings = _read(tmp_path)
    assert warnings == ["masks: all names end in _mask; paired with the images without it"]
    assert [it.name for it in samples] == ["x/a", "x/b", "y/c1", "y/c10", "z/deep/d"]


def test_images_and_masks_in_the_same_folders_of_classes(tmp_path: Path) -> None:
    for name, home in zip(NAMES, ("x", "x", "y", "y", "y"), strict=True):
        _write(tmp_path / home / f"{name}.png", name, mask=False)
        _write(tmp_path / home / f"{name}_mask.png", name, mask=True)
    _write(tmp_path / "x" / "a_mask_1.png", "a", mask=True, column=8)
    samples, warnings = _read(tmp_path)
    assert [it.name for it in samples] == ["x/a", "x/b", "y/c1", "y/c10", "y/d"]
    assert [len(it.files) for it in samples] == [2, 1, 1, 1, 1]
    assert warnings[1] == "masks: 6 files of 5 images (NAME_mask_NUMBER): a mask an object"


@pytest.mark.parametrize("layout", ["bowl", "numbers"])
def test_a_file_for_each_object(tmp_path: Path, layout: str) -> None:
    for name in NAMES:
        for number in range(3):
            where = f"{name}/masks/{number * 7}" if layout == "bowl" else f"masks/{name}_{number}"
            _write(tmp_path / f"{where}.png", name, mask=True, column=2 + 3 * number)
        where = f"{name}/images/{name}" if layout == "bowl" else f"images/{name}"
        _write(tmp_path / f"{where}.png", name, mask=False)
    samples, warnings = _read(tmp_path)
    assert len(warnings) == 1
    assert "15 files of 5 images" in warnings[0]
    assert [it.name for it in samples] == list(NAMES)
    arrays = load(samples[0], tmp_path, Resize(16), 1, 1)
    assert sorted(np.unique(arrays["instances"])) == [0, 1, 2, 3]
    assert arrays["mask"].sum() == (arrays["instances"] > 0).sum() > 0
    assert samples[0].meaning == Meaning("instances")
    (tmp_path / f"{samples[0].files[2].relative_to(tmp_path)}").write_text("no image")
    listing = read_image_mask(tmp_path, split_seed=0)
    assert list(problems_of(listing)) == [samples[0].files[2].relative_to(tmp_path).as_posix()]


def test_what_else_is_read_is_named_where_nothing_is_found(tmp_path: Path) -> None:
    _write(tmp_path / "pictures" / "a.png", "a", mask=False)
    with pytest.raises(UserError, match=r"Read as well: a folder for each image .* NAME_mask"):
        read_image_mask(tmp_path, split_seed=0)
