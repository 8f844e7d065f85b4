"""Files of several pages and channels and of more than 8 bits, against tifffile and numpy."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from phasewise.data.images import image_size, read_image
from phasewise.data.reading import AS_IS, Layout, Reading, layout_of, read_raw, refusal
from phasewise.errors import BadSample

# pytest resets the filters that phasewise.data.opening sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

RANDOM = np.random.default_rng(0)


def _reason(call: Any, *arguments: Any) -> str:
    with pytest.raises(BadSample) as caught:
        call(*arguments)
    return caught.value.problem.reason


def _grey(array: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(array)[..., None], 3, axis=2)


def deep_png(path: Path, values: np.ndarray) -> Path:
    """16-bit RGB, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def test_pages_must_be_chosen_and_can_be_projected(tmp_path: Path) -> None:
    path = tmp_path / "z.tif"
    stack = RANDOM.integers(0, 256, (5, 12, 16), dtype=np.uint8)
    tifffile.imwrite(path, stack)
    assert layout_of(path) == Layout((16, 12), pages=5, raw=True)
    for read in (read_image, image_size):
        assert _reason(read, path) == "5 pages; save what is meant as a file of its own"
    for page in range(5):
        np.testing.assert_array_equal(read_image(path, None, Reading(page)), _grey(stack[page]))
    top = read_image(path, None, Reading("max"))
    np.testing.assert_array_equal(top, _grey(stack.max(0)))
    mean = read_image(path, None, Reading("mean"))[..., 0]
    assert np.abs(mean - stack.mean(0)).max() <= 0.5
    assert "data.page=5, of 5 page(s)" in _reason(read_image, path, None, Reading(5))


@pytest.mark.parametrize("shape", [(12, 16, 5), (5, 12, 16), (12, 16, 2)])
def test_channels_must_be_chosen(tmp_path: Path, shape: Any) -> None:
    path = tmp_path / "c.tif"
    values = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    apart = shape[0] == 5
    config = "separate" if apart else "contig"
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig=config)
    last = np.moveaxis(values, 0, 2) if apart else values
    count = last.shape[2]
    assert layout_of(path) == Layout((16, 12), channels=count, raw=True)
    assert f"{count} channels; save what is meant" in _reason(read_image, path)
    way = f"{count} channels; data.channels=[0] ... [{count - 1}], up to three of them, max or mean"
    assert refusal(layout_of(path), AS_IS, keys=True).startswith(way)
    one = read_image(path, None, Reading(channels=(1,)))
    np.testing.assert_array_equal(one, _grey(last[..., 1]))
    two = read_image(path, None, Reading(channels=(1, 0)))
    np.testing.assert_array_equal(two[..., :2], last[..., [1, 0]])
    assert two[..., 2].max() == 0
    top = read_image(path, None, Reading(channels="max"))
    np.testing.assert_array_equal(top, _grey(last.max(2)))
    assert "counted from 0" in _reason(read_image, path, None, Reading(channels=(count,)))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_pages_and_channels_of_microscopes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x.ome.tif" if kind == "ome" else "x.tif")
    values = RANDOM.integers(0, 65536, (3, 2, 12, 16), dtype=np.uint16)
    tifffile.imwrite(path, values, imagej=kind == "imagej", metadata={"axes": "ZCYX"})
    assert layout_of(path) == Layout((16, 12), pages=3, channels=2, kind="16", raw=True)
    raw, _ = read_raw(path, "x", Reading(2, (1,)))
    np.testing.assert_array_equal(raw, values[2, 1])
    raw, _ = read_raw(path, "x", Reading("max", (0, 1)))
    np.testing.assert_array_equal(raw, np.moveaxis(values.max(0), 0, 2))
    scaled = read_image(path, None, Reading(0, (1,), 1000, 2000))[..., 0]
    expected = np.clip((values[0, 1].astype(float) - 1000) / 1000, 0, 1) * 255
    assert np.abs(scaled - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_value_of_sixteen_bits_is_rounded_as_whole_numbers_are(
    tmp_path: Path, bits: int
) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    white = 2**bits - 1
    whole = values.astype(np.int64)
    expected = np.minimum((whole * 255 + white // 2) // white, 255).astype(np.uint8)
    for name in ("x.png", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        read = read_image(tmp_path / name, None, Reading(black=0, white=white))
        np.testing.assert_array_equal(read[..., 0], expected)


def test_floats_and_negative_numbers_need_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "f.tif"
    values = RANDOM.random((12, 16), dtype=np.float32)
    values[0, 0] = np.nan
    tifffile.imwrite(path, values)
    assert layout_of(path).kind == "float"
    assert "floating-point pixels" in _reason(read_image, path)
    read = read_image(path, None, Reading(black=0, white=1))[..., 0]
    assert np.abs(read - np.nan_to_num(values) * 255).max() <= 0.5 + 1e-4
    signed = RANDOM.integers(-1000, 3000, (12, 16)).astype(np.int16)
    tifffile.imwrite(path, signed)
    assert "8 or 16 bits are needed" in _reason(read_image, path)
    read = read_image(path, None, Reading(black=-1000, white=3000))[..., 0]
    assert np.abs(read - (signed + 1000.0) / 4000 * 255).max() <= 0.5 + 1e-9
    tifffile.imwrite(path, signed.astype(np.int64))
    assert "64-bit pixels" in _reason(read_image, path)


def test_deep_colour_keeps_all_bits_where_it_is_scaled(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 4096, (12, 16, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    deep_png(tmp_path / "x.png", values)
    for name in ("x.tif", "x.png"):
        path = tmp_path / name
        assert layout_of(path) == Layout((16, 12), channels=3, rgb=True, kind="16")
        raw, _ = read_raw(path, name, Reading(black=0, white=4095))
        np.testing.assert_array_equal(raw, values)
        read = read_image(path, None, Reading(black=0, white=4095))
        assert np.abs(read - values / 4095 * 255).max() <= 0.5 + 1e-9
        np.testing.assert_array_equal(read_image(path), values >> 8)  # as Pillow has it


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_stacks_are_upright_as_pillow_has_single_pictures(
    tmp_path: Path, orientation: int
) -> None:
    values = RANDOM.integers(0, 256, (2, 12, 16), dtype=np.uint8)
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "two.tif", values, extratags=tag)
    tifffile.imwrite(tmp_path / "one.tif", values[1], extratags=tag)
    expected = read_image(tmp_path / "one.tif")[..., 0]
    assert expected.shape == ((16, 12) if orientation >= 5 else (12, 16))
    read = read_image(tmp_path / "two.tif", None, Reading(1))
    np.testing.assert_array_equal(read[..., 0], expected)
    assert layout_of(tmp_path / "two.tif").size == expected.shape[::-1]


def test_compressed_stacks_are_read_as_pillow_decodes_them(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (3, 12, 16), dtype=np.uint8)
    pages = [Image.fromarray(page) for page in values]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        path = tmp_path / f"{compression}.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
        for index in range(3):
            read = read_image(path, None, Reading(index))
            np.testing.assert_array_equal(read[..., 0], values[index])


def test_a_thumbnail_behind_an_image_is_no_page(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    values = RANDOM.integers(0, 256, (32, 48), dtype=np.uint8)
    with tifffile.TiffWriter(path) as file:
        file.write(values)
        file.write(values[::4, ::4], subfiletype=1)
    assert layout_of(path) == Layout((48, 32))
    np.testing.assert_array_equal(read_image(path), _grey(values))


def test_damaged_stacks_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, RANDOM.integers(0, 256, (4, 32, 48), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert _reason(read_image, path, "a/x.tif", Reading("max"))
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(0, 400, 3)] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with suppress(BadSample):
            read_image(path, "a/x.tif", Reading("max"))


def test_a_checkpoint_keeps_it_and_older_ones_know_their_bits() -> None:
    for reading in (Reading(), Reading("max", (0, 2), 3, 400.5), Reading(1, "mean")):
        assert Reading.of_info({"reading": reading.as_dict()}) == reading
    assert Reading.of_info({"grey_bits": 12}) == Reading(black=0, white=4095)
    assert Reading.of_info({"grey_bits": 16}) == Reading.of_info({}) == Reading()
