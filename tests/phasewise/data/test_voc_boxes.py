"""What boxes of a set mean, seen in pixels: a white rectangle is drawn, and must fill its box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from localization.readers import read_voc_boxes
from phasewise.data.frame import Frame
from phasewise.data.images import read_image
from phasewise.data.voc import read_voc
from phasewise.errors import UserError
from tests.phasewise.data.folders import an_object, annotation, problems_of, write

WIDTH, HEIGHT = 48, 32
Box = tuple[int, int, int, int]

# Continuous edges, counted from 0. Two boxes touch the left edge, one the right one.
BOXES = [(0, 5, 12, 21), (0, 8, 9, 30), (7, 3, 30, 20), (30, 16, 48, 28)]


def drawn(box: Box, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes an image and its annotation, whose box is given as written."""

    def add(
        name: str, image: Image.Image, *edges: object, size: Any = (WIDTH, HEIGHT), exif: int = 1
    ) -> None:
        path = tmp_path / "JPEGImages" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        tags = Image.Exif()
        tags[0x0112] = exif
        image.save(path, exif=tags, quality=100, subsampling=0)
        box = dict(zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=False))
        text = annotation(*([an_object(**box)] if edges else []), size=size)
        write(tmp_path / "Annotations" / f"{name}.xml", text)

    return add


def read(root: Path, **settings: Any) -> Any:
    return read_voc(root, split_seed=0, **settings)


def boxes(listing: Any) -> dict[str, Any]:
    assert listing.problems == []
    return {it.name: it.objects[0].box for part in listing.samples.values() for it in part}


def check_pixels(listing: Any, tolerance: float = 0.5) -> None:
    """Each box is where its rectangle is seen, upright, in the file."""
    samples = [it for part in listing.samples.values() for it in part]
    assert samples
    for sample in samples:
        rows, columns = np.nonzero(read_image(sample.image)[..., 0] > 128)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(sample.objects[0].box, seen, atol=tolerance)


def notes(listing: Any) -> list[str]:
    return [str(it) for it in listing.warnings if it.file == "Annotations/*.xml"]


# From which number pixels are counted


@pytest.mark.parametrize(
    ("first", "last", "note"),
    [
        (1, 0, None),  # PASCAL VOC
        (0, 0, "from 0 (2 edges are at 0, 0 at 1), up to where a box ends"),
        (0, -1, "from 0 (2 edges are at 0, 0 at 1), with the last pixel in it"),
    ],
)
def test_each_way_to_count_is_recognised(
    tmp_path: Path, put: Put, first: int, last: int, note: str | None
) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + first, y1 + first, x2 + last, y2 + last)
    listing = read(tmp_path)
    check_pixels(listing)
    (told,) = notes(listing) or [""]
    assert (note or "") in told
    assert boxes(listing)["3"] == BOXES[3]


@pytest.mark.parametrize("share", [0.38, 0.0])
def test_labelmes_numbers_are_all_written_with_a_point(
    tmp_path: Path, put: Put, share: float
) -> None:
    shift = 0 if share else 1  # a table's 12.0 is a whole number, counted from 1 as VOC's
    for i, (x1, y1, x2, y2) in enumerate(BOXES[2:]):
        put(f"{i}", drawn((x1, y1, x2, y2)), f"{x1 + shift}.0", y1 + shift + share, f"{x2}.0", y2)
    listing = read(tmp_path)
    check_pixels(listing)
    assert bool(notes(listing)) == bool(share)


def test_fractions_in_most_numbers_are_those_of_a_tool_that_counts_from_zero(
    tmp_path: Path, put: Put
) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 0.38, y1 + 0.25, x2 - 0.42, y2 - 0.12)
    listing = read(tmp_path)
    check_pixels(listing)
    (note,) = notes(listing)
    assert "100 % of the numbers are fractions" in note


def test_a_slip_or_a_few_fractions_do_not_make_a_set_count_from_zero(
    tmp_path: Path, put: Put
) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2)
    put("slip", drawn((0, 4, 9, 9)), 0, 5, 9, 9)
    put("fraction", drawn((5, 4, 9, 9)), 6.3, 5.1, 9.2, 9)
    listing = read(tmp_path)
    assert notes(listing) == []
    assert boxes(listing)["slip"] == (0, 4, 9, 9)
    assert boxes(listing)["fraction"] == pytest.approx((5.3, 4.1, 9.2, 9))


def test_coordinates_says_otherwise(tmp_path: Path, put: Put) -> None:
    for i, box in enumerate(BOXES):
        put(f"{i}", drawn(box), *box)
    assert boxes(read(tmp_path))["2"] == (7, 3, 30, 20)
    told = read(tmp_path, coordinates="one_based")
    assert (boxes(told)["2"], notes(told)) == ((6, 2, 30, 20), [])
    assert boxes(told)["0"] == (0, 4, 12, 21)
    put("0", drawn((7, 3, 30, 20)), 7, 3, 30, 20)
    put("1", drawn((7, 3, 30, 20)), 7, 3, 30, 20)
    assert boxes(read(tmp_path))["2"] == (6, 2, 30, 20)
    found = read_voc_boxes(tmp_path, pick="only", split_seed=0, coordinates="zero_based")
    assert {it.box for part in found.samples.values() for it in part} >= {(7, 3, 30, 20)}
    with pytest.raises(UserError, match=r"coordinates='two' is none of auto"):
        read(tmp_path, coordinates="two")


# For which image boxes are


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_as_pillow_turns_images(orientation: int) -> None:
    box = (7, 3, 30, 12)
    stored = drawn(box)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))[..., 0]
    rows, columns = np.nonzero(upright)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert Frame((WIDTH, HEIGHT), upright.shape[::-1], orientation).box(box) == seen


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_for_the_stored_image_are_turned(tmp_path: Path, put: Put, orientation: int) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2, exif=orientation)
    listing = read(tmp_path)
    check_pixels(listing)
    assert notes(listing) == [
        "Annotations/*.xml: boxes of 4 images are for the image as stored, which EXIF turns (size "
        "tags tell it): they are turned with it; data.size_tag=ignore says otherwise"
    ]


def test_a_half_turn_goes_with_the_others_of_the_set(tmp_path: Path, put: Put) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2, exif=6 if i else 3)
    check_pixels(read(tmp_path))


def test_boxes_for_the_upright_image_stay(tmp_path: Path, put: Put) -> None:
    turned = {6: (WIDTH, HEIGHT), 3: (HEIGHT, WIDTH)}
    for exif, stored in turned.items():
        upright = stored[::-1] if exif == 6 else stored
        box = Frame(stored, upright, exif).box((2, 4, 20, 11))
        x1, y1, x2, y2 = (int(edge) for edge in box)
        put(
            f"{exif}",
            drawn((2, 4, 20, 11), stored),
            x1 + 1,
            y1 + 1,
            x2,
            y2,
            size=upright,
            exif=exif,
        )
    listing = read(tmp_path)
    check_pixels(listing)
    (note,) = notes(listing)
    assert note.startswith("Annotations/*.xml: 1 images are turned by EXIF, and no size tag tells")


def test_without_a_size_tag_boxes_may_show_that_they_are_stored(tmp_path: Path, put: Put) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2, size=None, exif=6)
    check_pixels(read(tmp_path))  # the last box is too far right for the upright image


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_boxes_for_another_size_of_the_image_are_scaled(
    tmp_path: Path, put: Put, scale: float
) -> None:
    declared = (int(WIDTH * scale), int(HEIGHT * scale))
    for i, (x1, y1, x2, y2) in enumerate([(4, 6, 12, 22), (8, 4, 30, 20)]):
        left, top, right, bottom = (int(edge * scale) for edge in (x1, y1, x2, y2))
        put(f"{i}", drawn((x1, y1, x2, y2)), left + 1, top + 1, right, bottom, size=declared)
    listing = read(tmp_path)
    check_pixels(listing, tolerance=0.01)
    (note,) = notes(listing)
    assert "2 files' size tags tell another size of the same shape: boxes are scaled" in note
    if scale < 1:
        ignored = boxes(read(tmp_path, size_tag="ignore"))
        assert ignored == {"0": (2, 3, 6, 11), "1": (4, 2, 15, 10)}


def test_tags_of_another_size_that_boxes_contradict_are_wrong(tmp_path: Path, put: Put) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2, size=(24, 16))
    listing = read(tmp_path)
    check_pixels(listing)
    (note,) = notes(listing)
    assert "4 files' size tags tell another size, beyond which boxes lie" in note


def test_boxes_for_an_image_of_another_shape_are_refused(tmp_path: Path, put: Put) -> None:
    for i, (x1, y1, x2, y2) in enumerate(BOXES):
        put(f"{i}", drawn(BOXES[i]), x1 + 1, y1 + 1, x2, y2)
    put("wrong", drawn(BOXES[2]), 8, 4, 30, 20, size=(500, 375))
    put("nothing", drawn(BOXES[2]), size=(500, 375))
    put("beyond", drawn(BOXES[3]), 31, 17, 48, 28, size=(32, 32))
    put("swapped", drawn(BOXES[2]), 8, 4, 30, 20, size=(HEIGHT, WIDTH))
    put("none", drawn(BOXES[2]), 8, 4, 30, 20, size=(0, 0))
    listing = read(tmp_path)
    assert problems_of(listing) == {
        "Annotations/wrong.xml": "its size tag says 500x375, the image is 48x32: boxes for an "
        "image of another shape; data.size_tag=ignore takes them for this one"
    }
    told = " ".join(notes(listing))
    assert "1 file's size tags tell width and height swapped; the boxes fit" in told
    assert "(beyond.xml: its size tag says 32x32, the image is 48x32)" in told
    assert "1 file's size tags tell no size" in told
    ignored = read(tmp_path, size_tag="ignore")
    assert (ignored.problems, notes(ignored)) == ([], [])
    with pytest.raises(UserError, match=r"size_tag='no' is none of auto, ignore"):
        read(tmp_path, size_tag="no")
