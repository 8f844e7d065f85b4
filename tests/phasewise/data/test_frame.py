"""Boxes and masks for an image of another size, or as it is stored: against Pillow's turning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from phasewise.data.frame import Frame, find_frame
from phasewise.errors import BadSample

STORED = (60, 40)
BOX = (7, 5, 21, 32)


def stored(path: Path, orientation: int = 1, size: tuple[int, int] = STORED) -> Image.Image:
    """White in the box, black elsewhere, with an EXIF tag; as it lies in the file."""
    image = Image.new("L", size)
    image.paste(255, BOX)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    return image


def extent(image: Image.Image) -> tuple[int, ...]:
    box = image.getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_an_image_on_its_side_turn_with_it(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    lying = stored(path, orientation)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    assert upright.size == STORED[::-1]
    frame = find_frame(STORED, upright.size, path, "a.png", "a.json")
    assert (frame.turn, frame.is_scaled) == (orientation, False)
    assert frame.box(BOX) == extent(upright)
    assert np.array_equal(frame.mask(np.asarray(lying) > 0), np.asarray(upright) > 0)


def test_turned_and_half_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    stored(path, 6)
    frame = find_frame((30, 20), STORED[::-1], path, "a.png", "a.json")
    assert (frame.turn, frame.is_scaled) == (6, True)
    with Image.open(path) as image:
        expected = extent(ImageOps.exif_transpose(image))
    assert frame.box(tuple(edge / 2 for edge in BOX)) == expected


@pytest.mark.parametrize("stated", [STORED, (60.0, 40), ("60", "40"), (0, 0), (None, 40), ("", -3)])
def test_the_same_size_or_none_changes_nothing(tmp_path: Path, stated: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    stored(path, 6)  # its own size is 40x60 upright; nobody asks for the tag
    frame = find_frame(stated, STORED, path, "a.png", "a.json")
    assert frame == Frame(STORED, STORED)
    assert frame.box(BOX) == BOX


@pytest.mark.parametrize(("stated", "factor"), [((30, 20), 2), ((120, 80), 0.5)])
def test_the_same_aspect_is_scaled(tmp_path: Path, stated: tuple[int, int], factor: float) -> None:
    path = tmp_path / "a.png"
    stored(path)
    frame = find_frame(stated, STORED, path, "a.png", "a.json")
    assert frame.is_scaled
    assert frame.box(BOX) == tuple(edge * factor for edge in BOX)
    mask = np.zeros(stated[::-1], bool)
    mask[:, : stated[0] // 2] = True
    assert np.array_equal(frame.mask(mask), np.tile(np.arange(60) < 30, (40, 1)))


def test_sides_that_were_rounded_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    stored(path)
    assert find_frame((1001, 667), STORED, path, "a.png", "a.json").is_scaled
    assert find_frame((61, 40), STORED, path, "a.png", "a.json").is_scaled


@pytest.mark.parametrize("stated", [(60, 60), (48, 40), (60, 20)])
def test_another_aspect_is_refused(tmp_path: Path, stated: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    stored(path, 6)
    expected = f"a.json says {stated[0]}x{stated[1]}, the image is 60x40"
    with pytest.raises(BadSample, match=expected):
        find_frame(stated, STORED, path, "a.png", "a.json")


def test_swapped_sides_without_a_tag_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    stored(path)
    with pytest.raises(BadSample, match="swapped, and no EXIF tag says which way"):
        find_frame(STORED[::-1], STORED, path, "a.png", "a.json")
