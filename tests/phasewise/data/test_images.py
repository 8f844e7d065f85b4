from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from phasewise.data.images import (
    MAX_PIXELS,
    PADDING_COLOUR,
    Resize,
    image_header,
    image_size,
    mask_size,
    read_image,
    read_mask,
)
from phasewise.errors import BadSample, UserError

# pytest resets the filters that phasewise.data.images sets against Pillow's own remarks.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def _colours(height: int = 5, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _grey_png(path: Path, size: tuple[int, int], depth: int, rows: bytes) -> Path:
    """A grey PNG written chunk by chunk, for headers that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", *size, depth, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def _reason(call: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(BadSample) as caught:
        call(*arguments)
    assert caught.value.problem.file == "a/b.jpg"
    assert "/tmp" not in caught.value.problem.reason
    assert len(caught.value.problem.reason) < 160
    return caught.value.problem.reason


@pytest.mark.parametrize("suffix", ["png", "BMP", "tif", "webp"])
def test_lossless_rgb_is_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ä b.{suffix}"
    Image.fromarray(_colours()).save(path, lossless=True)
    np.testing.assert_array_equal(read_image(path), _colours())
    assert image_size(path) == (8, 5)


def test_grey_modes(tmp_path: Path) -> None:
    grey = _colours()[..., 0]
    for mode in ("L", "1", "P", "LA"):
        image = Image.fromarray(grey).convert(mode)
        image.save(tmp_path / "x.png")
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


def test_sixteen_bit_grey_is_scaled_from_its_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], dtype=np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        read = read_image(tmp_path / name)
        expected = np.round(values / 257).astype(np.uint8)
        np.testing.assert_array_equal(read, np.repeat(expected[..., None], 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").shape == (7, 1, 3)


def test_cmyk_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 40, 30)).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "x.jpg")[8, 8], (200, 40, 30), atol=4)


def test_transparency_is_composited_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 255, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    expected = [[255, 0, 0], [255, 255, 255], [204, 204, 255]]
    np.testing.assert_allclose(read_image(tmp_path / "rgba.png")[0], expected, atol=1)
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0], [[10, 20, 30], [255] * 3])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 24)).save(path, exif=exif)
    assert image_size(path) == (40, 24) == read_image(path).shape[1::-1]
    assert image_header(path).orientation == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_agrees_with_pillow(tmp_path: Path, orientation: Any, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(_colours(24, 40)).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == (expected.shape[1], expected.shape[0])
    assert image_size(path) == ((24, 40) if orientation >= 5 else (40, 24))


def test_damaged_exif_leaves_the_image_as_it_lies(tmp_path: Path) -> None:
    Image.fromarray(_colours()).save(tmp_path / "x.png", exif=b"Exif\0\0rubbish that is no TIFF")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), _colours())


def test_sizes_come_from_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("x.jpg", "x.png", "x.tif", "x.bmp", "x.webp")]
    for path in paths:
        Image.fromarray(_colours()).save(path)
    Image.fromarray(_colours()[..., 0]).save(tmp_path / "mask.png")

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [image_size(path) for path in paths] == [(8, 5)] * 5
    assert mask_size(tmp_path / "mask.png") == (8, 5)


def test_bad_files_are_refused_with_a_short_reason(tmp_path: Path) -> None:
    path = tmp_path / "b.jpg"
    assert _reason(image_size, path, "a/b.jpg") == "no such file"
    path.write_bytes(b"")
    assert "empty" in _reason(image_size, path, "a/b.jpg")
    path.write_text("I am text")
    assert "not an image" in _reason(image_size, path, "a/b.jpg")
    assert "not an image" in _reason(read_image, path, "a/b.jpg")
    path.unlink()
    path.mkdir()
    assert "directory" in _reason(image_size, path, "a/b.jpg").lower()


@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    for read in (image_size, read_image, read_mask, mask_size):
        assert _reason(read, tmp_path / "p.png", "a/b.jpg") == "a named pipe, no regular file"


def test_postscript_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "b.jpg"
    Image.fromarray(_colours()).save(path, format="EPS")
    assert "not an image" in _reason(image_size, path, "a/b.jpg")


def test_truncated_files_pass_the_header_and_fail_to_decode(tmp_path: Path) -> None:
    path = tmp_path / "b.jpg"
    for kind in ("JPEG", "PNG", "BMP", "TIFF"):
        Image.fromarray(_colours(64, 64)).save(path, format=kind)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        assert _reason(read_image, path, "a/b.jpg")


def test_damaged_files_never_escape_as_another_error(tmp_path: Path) -> None:
    path = tmp_path / "b.jpg"
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        Image.fromarray(_colours(32, 32)).save(path, format=kind)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, min(len(whole), 200), 3)] = random.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            for read in (image_size, read_image, read_mask):
                with suppress(BadSample):
                    read(path, "a/b.jpg")


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
def test_bombs_are_refused_before_decoding(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _grey_png(tmp_path / "b.jpg", (side, side), 8, b"\0" * 100)
    assert side * side > MAX_PIXELS
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for read in (image_size, read_image, read_mask, mask_size):
        assert "100,000,000" in _reason(read, path, "a/b.jpg")


def test_the_largest_allowed_image_has_a_size(tmp_path: Path) -> None:
    assert image_size(_grey_png(tmp_path / "x.png", (10_000, 10_000), 8, b"")) == (10_000, 10_000)


def test_thirty_two_bit_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.tif"
    for dtype, value in ((np.int32, 70_000), (np.int32, -1), (np.float32, 0.5)):
        Image.fromarray(np.full((2, 2), value, dtype)).save(path)
        assert "8 or 16 bits" in _reason(read_image, path, "a/b.jpg")


def test_masks_keep_their_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 20], [255, 7, 2]], dtype=np.uint8)
    Image.fromarray(indices).save(tmp_path / "grey.png")
    palette = Image.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(indices.astype(np.uint16)).save(tmp_path / "sixteen.png")
    for name in ("grey.png", "palette.png", "sixteen.png"):
        read = read_mask(tmp_path / name)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, indices)
        assert mask_size(tmp_path / name) == (3, 2)
    few = Image.fromarray(indices % 4).convert("P")
    few.putdata((indices % 4).ravel().tolist())
    few.save(tmp_path / "two_bits.png", bits=2)
    np.testing.assert_array_equal(read_mask(tmp_path / "two_bits.png"), indices % 4)
    Image.fromarray(indices > 5).save(tmp_path / "one_bit.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "one_bit.png"), indices > 5)


def test_masks_that_cannot_be_indices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.png"
    for mode in ("RGB", "RGBA", "LA"):
        Image.new(mode, (3, 2)).save(path)
        for read in (read_mask, mask_size):
            assert f"mode {mode};" in _reason(read, path, "a/b.jpg")
    Image.new("L", (16, 16)).save(path, format="JPEG")
    assert "JPEG" in _reason(mask_size, path, "a/b.jpg")
    Image.fromarray(np.full((2, 2), 256, np.uint16)).save(path)
    assert "256" in _reason(read_mask, path, "a/b.jpg")
    # Two pixels 1 and 2 of 4 bits each: Pillow reads 17 and 34.
    _grey_png(path, (2, 1), 4, b"\0\x12")
    assert "4-bit" in _reason(mask_size, path, "a/b.jpg")


SIZES = [(640, 480), (333, 500), (97, 1000), (31, 17), (64, 64), (1, 300)]


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", SIZES)
def test_mask_is_sampled_at_pixel_centres_as_torch_and_pillow_do(mode: str, size: Any) -> None:
    width, height = size
    resize = Resize(128, mode)
    mask = np.random.default_rng(0).integers(0, 21, (height, width), dtype=np.uint8)
    resized = resize.mask(mask)
    scale = 1.0 if mode == "stretch" else 128 / max(size)
    shape = (128, 128)
    if mode == "letterbox":
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    top, left = (128 - shape[0]) // 2, (128 - shape[1]) // 2
    inner = resized[top : top + shape[0], left : left + shape[1]]
    as_torch = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), size=shape, mode="nearest-exact"
    )[0, 0]
    as_pillow = Image.fromarray(mask).resize(shape[::-1], Image.Resampling.NEAREST)
    # The references work in floating point and may fall to the other side of an exact tie.
    assert (inner == as_torch.numpy()).mean() > 0.999
    np.testing.assert_array_equal(inner, np.asarray(as_pillow))
    assert (resized == 255).sum() == 128 * 128 - inner.size


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (97, 301), (31, 17), (1001, 777)])
def test_image_mask_and_box_agree_to_the_pixel(mode: str, size: Any) -> None:
    """A drawn rectangle: its edge in the picture, in the mask and in the box are one edge."""
    width, height = size
    box = np.array([width // 5, height // 7, width - width // 4, height - height // 3])
    image = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    mask[box[1] : box[3], box[0] : box[2]] = 1

    resize = Resize(96, mode)
    (x1, y1, x2, y2) = resize.boxes(box[None].astype(np.float32), size)[0]
    resized = resize.mask(mask)
    centres = np.arange(96) + 0.5
    inside_box = ((centres > y1) & (centres < y2))[:, None] & ((centres > x1) & (centres < x2))
    np.testing.assert_array_equal(resized == 1, inside_box)

    # The mean position of the bright area is the box's centre, and its mass the box's area: no
    # shift of half a pixel, which a nearest mask alone could not show.
    padded = resized == 255
    bright = np.where(padded, 0, resize.image(image)[..., 0] / 255)
    rows, columns = np.indices(bright.shape) + 0.5
    assert (columns * bright).sum() / bright.sum() == pytest.approx((x1 + x2) / 2, abs=0.15)
    assert (rows * bright).sum() / bright.sum() == pytest.approx((y1 + y2) / 2, abs=0.15)
    assert bright.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.03)


def test_a_box_over_the_whole_image_covers_the_content() -> None:
    whole = np.array([[0, 0, 333, 500]], np.float32)
    assert Resize(96).boxes(whole, (333, 500)).tolist() == [[0, 0, 96, 96]]
    assert Resize(96, "letterbox").boxes(whole, (333, 500)).tolist() == [[16, 0, 80, 96]]
    assert Resize(96).boxes(np.zeros((0, 4)), (333, 500)).shape == (0, 4)
    assert Resize(96).boxes(whole, (333, 500)).dtype == np.float32


def test_letterbox_pads_image_with_the_mean_and_mask_with_void() -> None:
    image = np.full((50, 100, 3), 7, np.uint8)
    square = Resize(64, "letterbox").image(image)
    assert square.shape == (64, 64, 3)
    assert (square[:16] == PADDING_COLOUR).all()
    assert (square[16:48] == 7).all()
    assert (square[48:] == PADDING_COLOUR).all()
    assert (Resize(64, "letterbox").mask(image[..., 0])[:16] == 255).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(Resize(32).image(stripes).astype(int)) < 16  # grey, not black or white


def test_resize_refuses_wrong_settings() -> None:
    with pytest.raises(UserError, match=r"data.resize='crop'"):
        Resize(64, "crop")
    with pytest.raises(UserError, match=r"data.image_size=0"):
        Resize(0)
