from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label

from phasewise.data.images import PADDING_COLOUR, VOID, Resize
from phasewise.errors import BadSample, UserError
from segmentation import samples
from segmentation.image_mask import read_image_mask
from segmentation.meaning import AUTO, Meaning, decide
from segmentation.samples import Sample, load, read_binary_mask, tile

SETTINGS = {"min_area": 4, "min_distance": 2}

MEANINGS = {"auto": AUTO, "binary": Meaning("nonzero"), "instances": Meaning("instances")}


def _read(tmp_path: Path, values: np.ndarray, kind: str = "auto", name: str = "m.png") -> Any:
    Image.fromarray(values).save(tmp_path / name)
    return read_binary_mask(tmp_path / name, f"masks/{name}", MEANINGS[kind])


def _reason(tmp_path: Path, kind: str = "auto", name: str = "m.png") -> str:
    with pytest.raises(BadSample) as caught:
        read_binary_mask(tmp_path / name, "masks/m", MEANINGS[kind])
    assert caught.value.problem.file == "masks/m"
    return caught.value.problem.reason


# What values mean


@pytest.mark.parametrize(
    ("values", "mask", "instances"),
    [
        ([0, 1, 1], [0, 1, 1], None),
        ([0, 255, 0], [0, 1, 0], None),
        ([0, 38, 0], [0, 1, 0], None),
        ([0, 0, 0], [0, 0, 0], None),
        ([255, 255, 255], [1, 1, 1], None),
        ([0, 1, 255], [0, 1, 255], None),
        ([1, 1, 255], [1, 1, 255], None),
        ([0, 2, 255], [0, 1, 1], [0, 1, 2]),
        ([7, 3, 0], [1, 1, 0], [2, 1, 0]),
        ([1, 2, 3], [1, 1, 1], [1, 2, 3]),
    ],
)
def test_auto_judges_by_the_values(tmp_path: Path, values: Any, mask: Any, instances: Any) -> None:
    found, objects = _read(tmp_path, np.array([values], np.uint8))
    assert found.tolist() == [mask]
    assert found.dtype == np.uint8
    assert (objects if objects is None else objects.tolist()[0]) == instances
    assert objects is None or objects.dtype == np.int16


@pytest.mark.parametrize(
    ("values", "instances"),
    [
        ([0, 1, 255], [0, 1, 2]),
        ([0, 5, 0], [0, 1, 0]),
        ([0, 255, 0], None),
        ([0, 65535, 0], None),
        ([300, 0, 40000], [1, 0, 2]),
        ([0, 0, 0], None),
    ],
)
@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_sixteen_bits_are_an_instance_map(
    tmp_path: Path, values: Any, instances: Any, name: str
) -> None:
    found, objects = _read(tmp_path, np.array([values], np.uint16), name=name)
    assert found.tolist() == [[int(value > 0) for value in values]]
    assert (objects if objects is None else objects.tolist()[0]) == instances


def test_forced_kinds(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 255]], np.uint8)
    mask, objects = _read(tmp_path, values, "binary")
    assert (mask.tolist(), objects) == ([[0, 1, 1, 1]], None)
    assert _read(tmp_path, values[:, [0, 1, 3]], "binary")[0].tolist() == [[0, 1, 255]]
    mask, objects = _read(tmp_path, values[:, [0, 1, 3]], "instances")
    assert (mask.tolist(), objects.tolist()) == ([[0, 1, 1]], [[0, 1, 2]])
    assert _read(tmp_path, values * 0, "instances")[1].max() == 0
    assert _read(tmp_path, values.astype(np.uint16) * 99, "binary")[1] is None
    with pytest.raises(UserError, match="none of auto, binary, instances"):
        decide([], "both")


def test_one_bit_palette_grey_in_three_channels_and_gif(tmp_path: Path) -> None:
    foreground = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    grey = Image.fromarray(foreground * 255)
    grey.convert("1").save(tmp_path / "one.png")
    grey.convert("RGB").save(tmp_path / "three.png")
    palette = Image.fromarray(foreground).convert("P")
    palette.putdata(foreground.ravel().tolist())
    palette.putpalette([255, 255, 200, 0, 0, 0])  # index 0 is light, and the ground nevertheless
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "palette.gif")
    for name in ("one.png", "three.png", "palette.png", "palette.gif"):
        mask, objects = read_binary_mask(tmp_path / name, name)
        np.testing.assert_array_equal(mask, foreground, err_msg=name)
        assert objects is None
    palette.putpalette([255, 255, 255, 0, 0, 0])  # as often as not numbered anew by a program
    palette.save(tmp_path / "white.png")
    with pytest.raises(BadSample, match="white for 0"):
        read_binary_mask(tmp_path / "white.png", "white.png")


def test_refusals(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = 255, 255, 254
    Image.fromarray(colour).save(tmp_path / "m.png")
    assert "a colour mask" in _reason(tmp_path)
    Image.fromarray(np.array([[0.5, 1.5]], np.float32)).save(tmp_path / "m.tif")
    assert "floating-point" in _reason(tmp_path, name="m.tif")
    Image.new("CMYK", (4, 4)).save(tmp_path / "m.tif")
    assert "mode CMYK" in _reason(tmp_path, name="m.tif")
    Image.new("L", (16, 16)).save(tmp_path / "m.jpg")
    assert "JPEG" in _reason(tmp_path, name="m.jpg")
    Image.new("L", (16, 16)).save(tmp_path / "m.tif", compression="jpeg")
    assert "JPEG" in _reason(tmp_path, name="m.tif")
    Image.new("L", (16, 16)).save(tmp_path / "m.webp", lossless=True)
    assert "WebP" in _reason(tmp_path, name="m.webp")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "m.tif")
    assert "70000" in _reason(tmp_path, name="m.tif")
    Image.fromarray(np.full((2, 2), -1, np.int32)).save(tmp_path / "m.tif")
    assert "-1" in _reason(tmp_path, name="m.tif")
    Image.new("1", (16, 16)).save(tmp_path / "m.tif", tiffinfo={262: 0})
    assert "0 is white" in _reason(tmp_path, name="m.tif")
    big = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(big).save(tmp_path / "m.png")
    assert "65,535 objects; 32,767 are possible" in _reason(tmp_path)
    whole = (tmp_path / "m.png").read_bytes()
    (tmp_path / "m.png").write_bytes(whole[: len(whole) // 2])
    assert "cannot be decoded" in _reason(tmp_path)


def test_soft_edges_are_no_objects(tmp_path: Path) -> None:
    hard = np.zeros((64, 64), np.uint8)
    hard[16:48, 16:48] = 255
    Image.fromarray(hard).resize((50, 50), Image.Resampling.BILINEAR).save(tmp_path / "m.png")
    assert "smoothed" in _reason(tmp_path)
    assert "threshold" in _reason(tmp_path)
    mask, objects = read_binary_mask(tmp_path / "m.png", "m", MEANINGS["binary"])
    assert set(np.unique(mask)) == {0, 1}
    assert objects is None


# Tiles


def _sample(width: int, height: int, name: str = "a") -> Sample:
    return Sample(name, Path("i"), Path("m"), None, (width, height))


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (65, 130), (10, 200), (10, 20), (193, 129)])
def test_tiles_without_overlap_count_every_pixel_once(size: Any) -> None:
    width, height = size
    counted = np.zeros((max(height, 64), max(width, 64)), int)
    tiles = tile([_sample(width, height)], 64, 0.0)
    for one in tiles:
        left, top, right, bottom = one.tile
        assert (right - left, bottom - top) == (64, 64)
        assert left >= 0 and top >= 0
        assert right <= max(width, 64) and bottom <= max(height, 64)
        counted[top + one.seen[1] : bottom, left + one.seen[0] : right] += 1
    assert (counted == 1).all()
    assert len(tiles) == -(-width // 64) * -(-height // 64)
    assert len({one.name for one in tiles}) == len(tiles)
    assert tiles[0].name == "a@0,0"


@pytest.mark.parametrize("overlap", [0.01, 0.25, 0.5, 0.9])
def test_tiles_with_overlap_cover_everything_and_overlap_enough(overlap: float) -> None:
    width, height = 211, 97
    tiles = tile([_sample(width, height)], 64, overlap)
    covered = np.zeros((height, width), bool)
    for one in tiles:
        left, top, right, bottom = one.tile
        covered[top:bottom, left:right] = True
        assert one.seen == (0, 0)
    assert covered.all()
    for axis in (0, 1):
        starts = sorted({one.tile[axis] for one in tiles})
        assert max(np.diff(starts)) <= 64 * (1 - overlap) + 1e-9
        assert starts[-1] == (width, height)[axis] - 64


def test_tiles_refuse_wrong_settings() -> None:
    for size, overlap in ((0, 0.0), (8, 1.0), (8, -0.1), (8, float("nan"))):
        with pytest.raises(UserError, match=r"data\.tile_"):
            tile([_sample(9, 9)], size, overlap)


# Arrays


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a (90 x 70) and b (40 x 30), touching squares in the masks."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, (width, height) in {"a": (90, 70), "b": (40, 30)}.items():
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        mask = np.zeros((height, width), np.uint8)
        for top in range(2, height - 10, 14):
            for left in range(3, width - 9, 13):
                mask[top : top + 9, left : left + 7] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "val.txt").write_text("b")
    return tmp_path


def _samples(root: Path) -> dict[str, Sample]:
    listing = read_image_mask(root, split_seed=0)
    return {sample.name: sample for part in listing.samples.values() for sample in part}


def _array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_shapes_types_and_no_mixed_values(root: Path) -> None:
    for size in (16, 33, 128):
        arrays = load(_samples(root)["a"], root, Resize(size, "letterbox"), **SETTINGS)
        found = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        assert found == {
            "image": ((3, size, size), "uint8"),
            "mask": ((size, size), "uint8"),
            "instances": ((size, size), "int16"),
        }
        assert set(np.unique(arrays["mask"])) <= {0, 1, 255}
        assert (arrays["mask"][:1] == VOID).all()  # letterbox
        assert not arrays["instances"][arrays["mask"] != 1].any()
    fewer = load(_samples(root)["a"], root, Resize(16), **SETTINGS, objects=False)
    assert fewer.keys() == {"image", "mask"}


def test_at_its_own_size_nothing_changes(root: Path) -> None:
    Image.fromarray(_array(root / "masks" / "b.png")[:, :30]).save(root / "masks" / "b.png")
    Image.fromarray(_array(root / "images" / "b.png")[:, :30]).save(root / "images" / "b.png")
    arrays = load(_samples(root)["b"], root, Resize(30), **SETTINGS)
    np.testing.assert_array_equal(
        arrays["image"], _array(root / "images" / "b.png").transpose(2, 0, 1)
    )
    mask = _array(root / "masks" / "b.png") > 0
    np.testing.assert_array_equal(arrays["mask"], mask)
    assert arrays["instances"].max() == label(mask).max()  # squares, apart from each other


def test_instance_maps_keep_touching_objects_apart_and_are_never_mixed(root: Path) -> None:
    (root / "instances").mkdir()
    numbers = np.zeros((70, 90), np.uint16)
    numbers[10:30, 10:30], numbers[10:30, 30:50], numbers[40:60, 5:85] = 500, 90, 1000
    Image.fromarray(numbers).save(root / "instances" / "a.png")
    mask = (numbers > 0).astype(np.uint8)
    mask[0] = VOID
    Image.fromarray(mask).save(root / "masks" / "a.png")
    for size in (41, 64, 100):
        arrays = load(_samples(root)["a"], root, Resize(size), **SETTINGS)
        assert set(np.unique(arrays["instances"])) == {0, 1, 2, 3}
        np.testing.assert_array_equal(arrays["instances"] > 0, arrays["mask"] == 1)
        as_pillow = Image.fromarray(numbers.astype(np.int32)).resize((size, size), 0)
        expected = np.searchsorted([0, 90, 500, 1000], np.asarray(as_pillow))
        np.testing.assert_array_equal(arrays["instances"], expected)
    # The same from the mask itself, where it is the instance map.
    (root / "instances" / "a.png").unlink()
    Image.fromarray(numbers).save(root / "masks" / "a.png")
    again = load(_samples(root)["a"], root, Resize(100), **SETTINGS)
    np.testing.assert_array_equal(again["instances"], arrays["instances"])
    whole = replace(_samples(root)["a"], meaning=MEANINGS["binary"])
    binary = load(whole, root, Resize(100), **SETTINGS)
    assert binary["instances"].max() == 2  # the two that touch are one box


def test_tiles_put_together_are_the_whole(root: Path) -> None:
    whole = {"image": _array(root / "images" / "a.png"), "mask": _array(root / "masks" / "a.png")}
    seen = np.full((70, 90), 9, np.uint8)
    for one in tile([_samples(root)["a"]], 32, 0.0):
        arrays = load(one, root, Resize(32), **SETTINGS)
        left, top, right, bottom = one.tile
        image = arrays["image"].transpose(1, 2, 0)
        np.testing.assert_array_equal(image, whole["image"][top:bottom, left:right])
        counts = arrays["mask"] != VOID
        assert not arrays["instances"][~counts].any()
        part = seen[top:bottom, left:right]
        assert (part[counts] == 9).all()
        part[counts] = arrays["mask"][counts]
    np.testing.assert_array_equal(seen, whole["mask"] > 0)


def test_a_small_image_is_padded_to_a_tile(root: Path) -> None:
    (one,) = tile([_samples(root)["b"]], 64, 0.0)
    arrays = load(one, root, Resize(64), **SETTINGS)
    assert (arrays["mask"][30:] == VOID).all() and (arrays["mask"][:, 40:] == VOID).all()
    assert (arrays["mask"][:30, :40] != VOID).all()
    assert (arrays["image"].transpose(1, 2, 0)[30:] == PADDING_COLOUR).all()


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what other tests decoded."""
    monkeypatch.setattr(samples, "_KEPT", samples._Kept())


@pytest.mark.parametrize("threads", [1, 8])
def test_an_image_is_decoded_once_for_all_its_tiles(
    root: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    calls = []
    decode = samples.read_image
    monkeypatch.setattr(samples, "read_image", lambda *a: calls.append(a[1]) or decode(*a))
    tiles = tile(list(_samples(root).values()), 8, 0.5)
    assert len(tiles) > 400
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda one: load(one, root, Resize(8), **SETTINGS, objects=False), tiles))
    # Threads that are late may find that the last tile has let the image go.
    assert len(calls) <= 2 + (2 if threads > 1 else 0)
    assert set(calls) == {"images/a.png", "images/b.png"}
    assert len(samples._KEPT._entries) <= (2 if threads > 1 else 0)


def test_little_is_kept_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CACHE_BYTES", 1)
    tiles = tile(list(_samples(root).values()), 16, 0.0)
    for one in tiles:
        load(one, root, Resize(16), **SETTINGS, objects=False)
        assert len(samples._KEPT._entries) <= 1


def test_tiles_of_a_changed_file_are_new(root: Path) -> None:
    tiles = tile([_samples(root)["a"]], 64, 0.0)
    before = load(tiles[0], root, Resize(64), **SETTINGS)["image"]
    Image.new("RGB", (90, 70), (1, 2, 3)).save(root / "images" / "a.png")
    after = load(tiles[0], root, Resize(64), **SETTINGS)["image"]
    assert after.max() == 3 < before.max()


def test_bad_files_are_told_by_their_name(root: Path) -> None:
    found = _samples(root)["a"]
    path = root / "images" / "a.png"
    path.write_bytes(path.read_bytes()[:3000])
    for one in (found, *tile([found], 32, 0.0)):
        with pytest.raises(BadSample, match=r"images/a.png: cannot be decoded"):
            load(one, root, Resize(16), **SETTINGS)


def test_the_range_of_sixteen_bit_images_is_that_of_the_set(root: Path) -> None:
    for name, largest, size in (("a", 4095, (70, 90)), ("b", 100, (30, 40))):
        values = np.full(size, largest, np.uint16)
        values[0, 0] = 0
        Image.fromarray(values).save(root / "images" / f"{name}.png")
    found = _samples(root)
    bright = load(found["a"], root, Resize(64), **SETTINGS)["image"]
    dim = load(found["b"], root, Resize(64), **SETTINGS)["image"]
    assert bright.max() == 255
    assert dim.max() == round(100 * 255 / 4095)
