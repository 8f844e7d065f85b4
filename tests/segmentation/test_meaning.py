"""What mask values mean is decided once for a set, on drawn masks as programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from phasewise.errors import BadSample, UserError
from segmentation.image_mask import read_image_mask
from segmentation.meaning import Meaning
from segmentation.samples import read_binary_mask
from tests.phasewise.data.folders import problems_of, warnings_of

SIZE = 64
NUMBER = 12


def disc(seed: int) -> np.ndarray:
    """A disc of 8 to 16 pixels in radius, bool (64, 64)."""
    draw = np.random.default_rng(seed)
    y, x, radius = draw.integers(20, 44), draw.integers(20, 44), draw.integers(8, 17)
    rows, columns = np.ogrid[:SIZE, :SIZE]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


class Masks:
    """A set whose masks are written by hand; images are grey."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("images", "masks"):
            (root / folder).mkdir()
        for number in range(NUMBER):
            image = Image.new("RGB", (SIZE, SIZE), (number, 0, 0))
            image.save(root / "images" / f"{number:02}.png")

    def write(self, number: int, values: Any, suffix: str = ".png", **how: Any) -> None:
        path = self.root / "masks" / f"{number:02}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, values)
        else:
            Image.fromarray(values).save(path, **how)

    def read(self, **settings: Any) -> Any:
        return read_image_mask(self.root, **{"split_seed": 0} | settings)

    def foreground(self, **settings: Any) -> tuple[list[np.ndarray], list[Any], list[str]]:
        """Masks and objects by number, and what is told."""
        listing = self.read(**settings)
        assert listing.problems == []
        samples = sorted(
            (it for part in listing.samples.values() for it in part), key=lambda it: it.name
        )
        read = [read_binary_mask(it.mask, it.name, it.meaning, it.reading.page) for it in samples]
        return [mask for mask, _ in read], [objects for _, objects in read], warnings_of(listing)


@pytest.fixture
def masks(tmp_path: Path) -> Masks:
    return Masks(tmp_path)


def _equal(found: list[np.ndarray], tolerance: float = 0.0) -> None:
    """The foreground of each mask is its disc."""
    for number, mask in enumerate(found):
        truth = disc(number)
        union = (mask == 1) | truth
        assert ((mask == 1) & truth).sum() / union.sum() >= 1 - tolerance, number
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("quality", [75, 90])
@pytest.mark.parametrize("kind", ["auto", "binary"])
def test_masks_that_were_jpeg_once_are_cut_in_the_middle(
    masks: Masks, kind: str, quality: int
) -> None:
    for number in range(NUMBER):
        values = (disc(number) * 255).astype(np.uint8)
        path = masks.root / "once.jpg"
        Image.fromarray(values).save(path, quality=quality)
        masks.write(number, np.asarray(Image.open(path)))
    found, objects, told = masks.foreground(kind=kind)
    _equal(found)
    assert objects == [None] * NUMBER
    assert len(told) == 1
    assert "as JPEG or scaling leaves them; 128 and more is foreground" in told[0]
    noisy, _, _ = masks.foreground(foreground="nonzero")
    assert sum(int(it.sum()) for it in noisy) > 1.1 * sum(int(it.sum()) for it in found)


def test_jpeg_masks_are_read_if_they_are_black_and_white(masks: Masks) -> None:
    for number in range(NUMBER):
        masks.write(number, (disc(number) * 255).astype(np.uint8), ".jpg", quality=75)
    found, _, told = masks.foreground()
    _equal(found)
    assert "128 and more is foreground" in told[0]
    for number in range(NUMBER):
        values = np.where(disc(number), 128, np.where(disc(number + 99), 255, 0)).astype(np.uint8)
        masks.write(number, values, ".jpg", quality=75)
    with pytest.raises(UserError, match="12 of 12 masks are JPEG or WebP"):
        masks.read()


def test_edges_that_scaling_smoothed_are_cut_in_the_middle(masks: Masks) -> None:
    for number in range(NUMBER):
        large = Image.fromarray((disc(number) * 255).astype(np.uint8)).resize((256, 256))
        masks.write(number, np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    _equal(masks.foreground()[0], tolerance=0.02)


def _classes(number: int, low: int, high: int) -> np.ndarray:
    inner = disc(number) & np.roll(disc(number), 4, axis=0)
    return (disc(number) * low + inner * (high - low)).astype(np.uint8)


def test_a_map_of_classes_is_asked_about(masks: Masks) -> None:
    for number in range(NUMBER):
        masks.write(number, _classes(number, 128, 255))
    with pytest.raises(UserError, match=r"same values, 128, 255.*foreground=255 or \[128,255\]"):
        masks.read()
    _equal(masks.foreground(foreground=[128, 255])[0])
    (inner, *_), objects, told = masks.foreground(foreground=255)
    np.testing.assert_array_equal(inner, _classes(0, 128, 255) == 255)
    assert objects == [None] * NUMBER
    assert told == []
    assert masks.foreground(kind="instances")[1][0].max() == 2
    with pytest.raises(UserError, match=r"no mask holds 7; besides 0 they hold 128, 255"):
        masks.read(foreground=7)


def test_classes_one_and_two_are_told_from_objects_by_their_pieces(masks: Masks) -> None:
    halves = np.arange(SIZE) < SIZE // 2
    for number in range(NUMBER):
        both = disc(number).astype(np.uint8)
        masks.write(number, both + (both & halves))  # an object of each number
    _, objects, told = masks.foreground()
    assert objects[0].max() == 2
    assert "of 12 looked at are read as instance maps" in told[0]
    dots = np.zeros((SIZE, SIZE), np.uint8)
    dots[4:60:12, 4:60:12] = 1
    dots = np.maximum(np.maximum(dots, np.roll(dots, 1, 0)), np.roll(dots, 1, 1))
    dots = np.maximum(dots, np.roll(dots, 1, 1))
    for number in range(NUMBER):
        masks.write(number, dots + (dots & halves))  # many of both
    with pytest.raises(UserError, match="same values, 1, 2, as maps of classes do"):
        masks.read()


def test_trimaps_have_no_ground(masks: Masks) -> None:
    for number in range(NUMBER):
        masks.write(number, np.where(disc(number), 1, 2).astype(np.uint8))
    with pytest.raises(UserError, match=r"no pixel of 12 masks is 0.*they hold 1, 2, as trimaps"):
        masks.read()
    _equal(masks.foreground(foreground=1)[0])


def test_black_can_be_the_foreground(masks: Masks) -> None:
    for number in range(NUMBER):
        masks.write(number, (~disc(number) * 255).astype(np.uint8))
    found, _, told = masks.foreground(foreground=0)
    _equal(found)
    assert told == []


def test_stray_values_belong_to_what_is_nearest(masks: Masks) -> None:
    for number in range(NUMBER):
        values = (disc(number) * 255).astype(np.uint8)
        if number in (3, 7):
            values[0, 0] = 3
            values[tuple(np.argwhere(disc(number))[0])] = 254
        masks.write(number, values)
    found, objects, told = masks.foreground()
    _equal(found)
    assert objects == [None] * NUMBER
    assert "2 of 12 hold other values than 0 and 255 (3, 254) in 4 pixels; 128 and more" in told[0]


def test_void_is_void_in_all_masks(masks: Masks) -> None:
    for number in range(NUMBER):
        values = np.where(disc(number), 1, 0).astype(np.uint8)
        values[:2] = 255
        if number == 5:
            values[values == 1] = 0
        masks.write(number, values)
    found, _, told = masks.foreground()
    assert sorted(np.unique(found[5])) == [0, 255]
    assert told == ["masks: 1 hold 0 and 255 only; 1 is foreground and 255 void in all of them"]


def test_a_mask_unlike_the_ones_looked_at_is_refused_by_name(
    masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(NUMBER):
        masks.write(number, disc(number).astype(np.uint8))
    masks.write(11, _classes(11, 1, 2))
    monkeypatch.setattr("segmentation.looking.LOOKED_AT", 3)
    samples = masks.read().samples
    (odd,) = (it for part in samples.values() for it in part if it.name == "11")
    assert odd.meaning == Meaning("single")
    with pytest.raises(BadSample, match=r"holds 1, 2; the others .* data\.foreground=VALUE"):
        read_binary_mask(odd.mask, "masks/11.png", odd.meaning)


@pytest.mark.parametrize("mode", ["red", "alpha", "red on transparent", "palette of red"])
def test_masks_of_one_colour(masks: Masks, mode: str) -> None:
    for number in range(NUMBER):
        truth = disc(number)
        shape = (SIZE, SIZE, 3 if mode == "red" else 4)
        values = np.zeros(shape, np.uint8)
        values[..., 0] = 200 * (truth | (mode == "alpha"))
        if mode != "red":
            values[..., 3] = 255 * truth
        if mode == "palette of red":
            grey = Image.fromarray(truth.astype(np.uint8) * 3)
            grey.putpalette([0, 0, 0] * 3 + [200, 0, 0])
            grey.save(masks.root / "masks" / f"{number:02}.png")
        else:
            masks.write(number, values)
    found, objects, told = masks.foreground()
    _equal(found)
    assert objects == [None] * NUMBER
    colour = "masks: colours; [200,0,0] is foreground, black is ground"
    assert told == ([colour] if mode == "red" else [])


def test_masks_of_several_colours_are_asked_about(masks: Masks) -> None:
    for number in range(NUMBER):
        values = np.zeros((SIZE, SIZE, 3), np.uint8)
        values[disc(number)] = 255, 0, 0
        values[:2] = 0, 255, 0
        masks.write(number, values)
    with pytest.raises(UserError, match=r"2 colours: \[0,255,0\], \[255,0,0\]; data.foreground"):
        masks.read()
    _equal(masks.foreground(foreground=[[255, 0, 0]])[0])
    found, _, told = masks.foreground(kind="binary")
    assert found[0][0].all()
    assert told == ["masks: colours; every colour but black is foreground, black is ground"]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, np.float32])
def test_label_maps_of_any_number_of_bits(masks: Masks, dtype: Any) -> None:
    for number in range(NUMBER):
        values = disc(number).astype(dtype)
        values[:2] = 300
        masks.write(number, values, ".tif")
    found, objects, _ = masks.foreground()
    assert {int(it.max()) for it in objects} == {2}
    np.testing.assert_array_equal(objects[0][0], 2)
    np.testing.assert_array_equal(found[0], disc(0) | (np.arange(SIZE) < 2)[:, None])


def test_shares_are_cut_in_the_middle(masks: Masks) -> None:
    rng = np.random.default_rng(0)
    for number in range(NUMBER):
        noise = rng.random((SIZE, SIZE), dtype=np.float32) * 0.2
        values = np.where(disc(number), 1 - noise, noise).astype(np.float32)
        masks.write(number, values, ".tif")
    _equal(masks.foreground()[0])


def test_a_page_an_object(masks: Masks) -> None:
    for number in range(NUMBER):
        pages = np.stack([disc(number)] * (1 if number % 2 else 5)).astype(np.uint8)
        masks.write(number, pages, ".tif")
    with pytest.raises(UserError, match="some masks have an object a page, others one page"):
        masks.read()
    for number in range(NUMBER):
        pages = [disc(number), np.roll(disc(number), 3, 0), *np.zeros((3, SIZE, SIZE), bool)]
        masks.write(number, np.stack(pages).astype(np.uint8) * 255, ".tif")
    found, objects, told = masks.foreground()
    np.testing.assert_array_equal(found[0], disc(0) | np.roll(disc(0), 3, 0))
    np.testing.assert_array_equal(objects[0] == 2, np.roll(disc(0), 3, 0))
    assert "12 have several pages, each of which is an object" in told[0]


def test_a_damaged_mask_is_still_refused_by_name(masks: Masks) -> None:
    for number in range(NUMBER):
        masks.write(number, disc(number).astype(np.uint8))
    (masks.root / "masks" / "00.png").write_text("I am text")
    assert problems_of(masks.read()).keys() == {"masks/00.png"}
