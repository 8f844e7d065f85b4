from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from phasewise.data.images import read_image
from phasewise.data.reading import AS_IS, Reading
from phasewise.errors import UserError
from segmentation.image_mask import read_image_mask
from tests.phasewise.data.folders import names_of, problems_of, warnings_of, write
from tests.phasewise.data.test_reading import deep_png


class Folder:
    """A small data set, written file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)

    def add(
        self,
        name: Any,
        *,
        suffix: Any = ".png",
        ending: Any = "",
        size: Any = (16, 12),
        mask: Any = True,
        value: Any = 255,
    ) -> None:
        image = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3))
        Image.fromarray(image.astype(np.uint8)).save(self.root / "images" / (name + suffix))
        if mask:
            values = np.zeros(size[::-1], np.uint8)
            values[2:5, 3:8] = value
            Image.fromarray(values).save(self.root / "masks" / f"{name}{ending}.png")

    def list(self, file: str, text: str | bytes) -> None:
        write(self.root / file, text)

    def read(self, **settings: Any) -> Any:
        return read_image_mask(self.root, **{"split_seed": 0} | settings)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "data set")
    for name in ("a", "b", "c", "d"):
        made.add(name)
    made.list("train.txt", "a\nb\n")
    made.list("val.txt", "c\nd\n")
    return made


def _save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def test_a_sound_folder(folder: Folder) -> None:
    listing = folder.read()
    assert names_of(listing) == {"train": ["a", "b"], "val": ["c", "d"], "test": []}
    assert (listing.problems, listing.warnings) == ([], [])
    assert listing.lists == ["train.txt", "val.txt"]
    sample = listing.samples["train"][0]
    assert sample.image == folder.root / "images" / "a.png"
    assert sample.mask == folder.root / "masks" / "a.png"
    assert (sample.instances, sample.size, sample.tile) == (None, (16, 12), None)


def test_the_real_set_of_beads(shared_data: Path) -> None:
    listing = read_image_mask(shared_data / "beads", split_seed=0)
    assert {split: len(part) for split, part in listing.samples.items()} == {
        "train": 64,
        "val": 15,
        "test": 39,
    }
    assert (listing.problems, listing.warnings) == ([], [])
    for part in listing.samples.values():
        for sample in part:
            assert sample.instances is not None
            assert sample.image.stem == sample.mask.stem == sample.instances.stem == sample.name


def test_adversarial_names_are_paired_by_name_never_by_order(tmp_path: Path) -> None:
    made = Folder(tmp_path)
    # Sorted as files, these orders differ: "-" < "." < "0" < "_", and "Z" < "a".
    names = [
        "a",
        "a.b",
        "a-b",
        "a b",
        "a_b",
        "A",
        "Z",
        "10",
        "9",
        "img.png",
        "a.png.b",
        "ä ö",
        "x@0,0",
    ]
    for number, name in enumerate(names, 1):
        size = (10 + number, 9)  # tells which is which
        suffix = [".png", ".JPG", ".bmp", ".TIFF", ".Webp"][number % 5]
        made.add(name, suffix=suffix, size=size, mask=False)
        mask_suffix = [".tif", ".PNG", ".gif"][number % 3]
        Image.new("L", size, number % 2).save(made.root / "masks" / (name + mask_suffix))
    for clutter in (".hidden", ".hidden.png", "._a.png", "Thumbs.db", "notes.txt"):
        (made.root / "images" / clutter).write_bytes(b"x")
        (made.root / "masks" / clutter).write_bytes(b"x")
    listing = made.read()
    assert listing.problems == []
    found = [sample for part in listing.samples.values() for sample in part]
    assert sorted(sample.name for sample in found) == sorted(names)
    for sample in found:
        assert sample.image.stem == sample.mask.stem == sample.name
        assert sample.size[0] == 11 + names.index(sample.name)


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    made = Folder(tmp_path)
    for name in ("a", "b"):
        made.add(name)
    bear = unicodedata.normalize("NFD", "Bär")
    made.add(bear, mask=False)
    Image.new("L", (16, 12)).save(made.root / "masks" / "Bär.png")
    made.list("train.txt", "\ufeffBär.PNG\r\n\r\n a \r\n".encode())
    made.list("val.txt", f"{bear}\nb".encode("utf-16"))
    listing = made.read()
    assert names_of(listing)["train"] == ["Bär", "a"]
    assert warnings_of(listing) == ["Bär: is in train and val"]


def test_list_entries_with_and_without_extension_or_folder(folder: Folder) -> None:
    for name in ("e.f", "g", "h"):
        folder.add(name, suffix=".JPG")
    folder.list("train.txt", "a\nb.png\ne.f\nimages/g.JPG\nmasks/h.png\ng\nb\n")
    listing = folder.read()
    assert names_of(listing)["train"] == ["a", "b", "e.f", "g", "h"]
    assert warnings_of(listing) == [
        "train.txt: lists 'b' more than once",
        "train.txt: lists 'g' more than once",
    ]
    assert listing.problems == []


def test_lists_in_image_sets_and_unlisted_images(folder: Folder) -> None:
    for file in ("train.txt", "val.txt"):
        (folder.root / file).unlink()
    folder.list("ImageSets/trainval.txt", "a\nb\nc\n")
    folder.list("ImageSets/val.txt", "c\n")
    listing = folder.read()
    assert names_of(listing) == {"train": ["a", "b"], "val": ["c"], "test": []}
    assert listing.lists == ["ImageSets/val.txt", "ImageSets/trainval.txt"]
    assert warnings_of(listing) == ["images: 1 of 4 are in no list and not used"]


def test_no_lists_means_a_hashed_split(tmp_path: Path) -> None:
    made = Folder(tmp_path)
    for index in range(40):
        made.add(f"{index:02d}")
    listing = made.read()
    assert [len(part) for part in listing.samples.values()] == [28, 6, 6]
    assert listing.lists == []
    assert names_of(made.read(split_seed=1)) != names_of(listing)
    assert names_of(made.read()) == names_of(listing)


def test_copies_of_one_photograph_are_in_one_split(tmp_path: Path) -> None:
    made = Folder(tmp_path)
    for index in range(60):
        made.add(f"p{index // 3:02d}_png.rf.{index:032x}")

    def homes(**settings: Any) -> list[set[str]]:
        return [{name[:3] for name in part} for part in names_of(made.read(**settings)).values()]

    assert sum(map(len, homes())) == 20
    assert sum(map(len, homes(group_by="none"))) > 20
    assert sum(map(len, homes(group_by="^p.."))) == 20
    told = warnings_of(made.read())
    assert any(note.startswith("data.group_by=auto: 60 of 60 images are in 20") for note in told)


def test_every_bad_sample_is_reported_and_the_rest_read(folder: Folder) -> None:
    names = ["a"]

    def add(name: Any, **settings: Any) -> Any:
        folder.add(name, **settings)
        names.append(name)
        return folder.root / "masks" / f"{name}.png"

    add("alone", mask=False)
    add("Case", mask=False)
    Image.new("L", (16, 12)).save(folder.root / "masks" / "case.png")
    add("twice")
    add("twice", suffix=".jpg")
    add("two masks")
    Image.new("L", (16, 12)).save(folder.root / "masks" / "two masks.tif")
    Image.new("L", (12, 16)).save(add("sizes"))
    Image.new("CMYK", (16, 12)).save(add("cmyk").with_suffix(".tif"))
    (folder.root / "masks" / "cmyk.png").unlink()
    add("empty").write_bytes(b"")
    add("text")
    (folder.root / "images" / "text.png").write_text("I am text")
    folder.list(
        "train.txt", "\n".join([*names, "gone.png", "../../secret", "/etc/passwd", "C:\\x"])
    )
    listing = folder.read()
    assert names_of(listing) == {"train": ["a"], "val": ["c", "d"], "test": []}
    found = problems_of(listing)
    expected = {
        "images/alone.png": "has no mask of this name",
        "images/Case.png": "no mask of this name (masks/case.png differs in upper and lower case)",
        "images/twice.jpg": "twice.jpg and twice.png: keep one",
        "masks/two masks.png": "two masks.png and two masks.tif: keep one",
        "masks/sizes.png": "is 12x16, its image 16x12",
        "masks/cmyk.tif": "mode CMYK",
        "masks/empty.png": "empty",
        "images/text.png": "not an image",
        "images/gone": "listed in train.txt, but there is no such image",
        "../../secret": "'..' (listed in train.txt)",
        "/etc/passwd": "absolute",
        "C:\\x": "absolute",
    }
    assert found.keys() == expected.keys()
    for file, reason in expected.items():
        assert reason in found[file]
        assert "\n" not in found[file]
        assert str(folder.root) not in found[file]


def test_a_mask_without_image_is_a_problem_where_nothing_is_listed(folder: Folder) -> None:
    for file in ("train.txt", "val.txt"):
        (folder.root / file).unlink()
    Image.new("L", (16, 12)).save(folder.root / "masks" / "z.png")
    assert problems_of(folder.read()) == {"masks/z.png": "has no image of this name"}


def test_instances_are_checked_like_masks(folder: Folder) -> None:
    (folder.root / "instances").mkdir()
    _save(folder.root / "instances" / "a.png", np.full((12, 16), 300, np.uint16))
    _save(folder.root / "instances" / "b.png", np.zeros((16, 12), np.uint8))
    listing = folder.read()
    assert names_of(listing)["train"] == ["a"]
    assert listing.samples["train"][0].instances == folder.root / "instances" / "a.png"
    assert problems_of(listing) == {"instances/b.png": "is 12x16, its image 16x12"}


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_label", "_seg"])
def test_an_ending_that_all_masks_have(tmp_path: Path, ending: str) -> None:
    made = Folder(tmp_path)
    for name in ("a", "b_mask", "c"):
        made.add(name, ending=ending)
    listing = made.read()
    assert listing.problems == []
    assert sorted(name for part in names_of(listing).values() for name in part) == [
        "a",
        "b_mask",
        "c",
    ]
    assert warnings_of(listing) == [
        f"masks: all names end in {ending}; paired with the images without it"
    ]
    made.add("d")
    with pytest.raises(UserError, match="6 samples in") as caught:  # 3 images and 3 masks alone
        made.read()
    hint = f"has no mask of this name (masks/a{ending}.png would do if all masks were named alike)"
    assert f"images/a.png: {hint}" in str(caught.value)


def test_a_turned_photo_is_measured_upright(folder: Folder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 16)).save(folder.root / "images" / "a.png", exif=exif)
    listing = folder.read()
    assert listing.problems == []
    assert listing.samples["train"][0].size == (16, 12)


def test_links_are_followed(folder: Folder, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (folder.root / name).rename(tmp_path / f"far {name}")
        (folder.root / name).symlink_to(tmp_path / f"far {name}")
    listing = folder.read()
    assert names_of(listing)["train"] == ["a", "b"]
    sample = listing.samples["train"][0]
    assert sample.image == folder.root / "images" / "a.png"


def test_what_is_missing_is_named_with_what_is_there(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_image_mask(tmp_path / "none", split_seed=0)
    with pytest.raises(UserError, match="is a file"):
        read_image_mask(folder.root / "train.txt", split_seed=0)
    with pytest.raises(UserError) as caught:
        read_image_mask(tmp_path, split_seed=0)
    message = str(caught.value)
    assert "has no images and no masks" in message
    assert "Folders there: data set" in message
    assert f"That layout is in data.root={folder.root}" in message
    (folder.root / "masks").rename(folder.root / "labels")
    with pytest.raises(UserError, match=r"has no masks\.\n.*Folders there: images, labels"):
        folder.read()
    (folder.root / "labels").rename(folder.root / "masks")
    for path in (folder.root / "images").iterdir():
        path.unlink()
    (folder.root / "images" / "train").mkdir()
    with pytest.raises(UserError, match=r"holds no image .*\. Folders there: train"):
        folder.read()


def test_empty_splits(folder: Folder) -> None:
    folder.list("val.txt", "\n\n")
    with pytest.raises(UserError, match=r"no sample for val\. Lists read: train.txt, val.txt"):
        folder.read()
    folder.list("val.txt", "gone\n")
    with pytest.raises(
        UserError, match=r"1 sample in .* cannot be used, which leaves val empty"
    ) as e:
        folder.read()
    assert "images/gone: listed in val.txt" in str(e.value)


def test_empty_masks_and_masks_without_ground_are_mentioned(folder: Folder) -> None:
    for name in "abcd":
        _save(folder.root / "masks" / f"{name}.png", np.zeros((12, 16), np.uint8))
    assert warnings_of(folder.read()) == ["masks: all 4 are empty: no pixel is foreground"]
    for name in "abcd":
        _save(folder.root / "masks" / f"{name}.png", np.full((12, 16), 255, np.uint8))
    assert "no pixel of them is 0" in warnings_of(folder.read())[0]


def test_one_mask_with_foreground_among_many_is_found(tmp_path: Path) -> None:
    made = Folder(tmp_path)
    for index in range(70):
        made.add(f"{index:02d}", value=0, size=(4, 6))
    assert "all 70 are empty" in warnings_of(made.read())[0]
    for index in (3, 69):
        made.add(f"{index:02d}", value=1, size=(4, 6))
        assert made.read().warnings == []
        made.add(f"{index:02d}", value=0, size=(4, 6))


def test_instance_maps_are_mentioned_once_unless_asked_for(folder: Folder) -> None:
    for name in "ab":
        values = np.zeros((12, 16), np.uint8)
        values[0, :9] = np.arange(9)
        _save(folder.root / "masks" / f"{name}.png", values)
    assert warnings_of(folder.read()) == [
        "masks: 2 of 4 looked at are read as instance maps, by their values; "
        "data.mask_values=binary or instances decides for all"
    ]
    for kind in ("binary", "instances"):
        assert folder.read(kind=kind).warnings == []
    with pytest.raises(UserError, match=r"data.mask_values='some' is none of auto, binary"):
        folder.read(kind="some")


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(200, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)],
)
def test_sixteen_bit_images_are_scaled_by_what_the_whole_set_uses(
    folder: Folder, largest: int, bits: int
) -> None:
    for name, value in (("a", largest // 2), ("b", 3), ("c", 5), ("d", largest)):
        suffix = ".png" if name == "a" else ".tif"
        (folder.root / "images" / f"{name}.png").unlink()
        _save(folder.root / "images" / f"{name}{suffix}", np.full((12, 16), value, np.uint16))
    listing = folder.read()
    assert listing.problems == []
    readings = {sample.reading for part in listing.samples.values() for sample in part}
    assert readings == {AS_IS if bits == 16 else Reading(black=0, white=2**bits - 1)}
    if bits == 16:
        assert listing.warnings == []
    else:
        assert warnings_of(listing) == [
            f"images: 4 are 16-bit grey; the largest value of all is {largest}, "
            f"so 0..{2**bits - 1} is shown as black to white"
        ]


@pytest.mark.parametrize("largest", [4095, 60000])
def test_sixteen_bit_colour_is_scaled_as_grey_is(folder: Folder, largest: int) -> None:
    values = np.linspace(0, largest, 12 * 16 * 3).astype(np.uint16).reshape(12, 16, 3)
    deep_png(folder.root / "images" / "a.png", values)
    listing = folder.read()
    assert listing.problems == []
    told = (
        "16-bit colour, of which the upper 8 bits are used"
        if largest == 60000
        else "16-bit colour; the largest value of all is 4095, so 0..4095 is shown as black to "
        "white"
    )
    assert warnings_of(listing) == [f"images: 1 are {told}"]
    (sample,) = (it for it in listing.samples["train"] if it.name == "a")
    read = read_image(sample.image, None, sample.reading)
    expected = values >> 8 if largest == 60000 else np.round(values / 4095 * 255)
    np.testing.assert_array_equal(read, expected)


def _deep(folder: Folder, values: np.ndarray) -> None:
    for name, page in zip("abcd", values, strict=True):
        (folder.root / "images" / f"{name}.png").unlink(missing_ok=True)
        tifffile.imwrite(folder.root / "images" / f"{name}.tif", page)


def test_a_hot_pixel_changes_no_other(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(80, 481, (4, 96, 128), dtype=np.uint16)
    values[0, 0, 0] = 480
    plain, hot = Folder(tmp_path / "plain"), Folder(tmp_path / "hot")
    for made, brightest in ((plain, 480), (hot, 65535)):
        for name in "abcd":
            made.add(name, size=(128, 96))
        values[2, 5, 7] = brightest
        _deep(made, values)
    white = {sample.reading for part in hot.read().samples.values() for sample in part}
    assert white == {sample.reading for part in plain.read().samples.values() for sample in part}
    assert white == {Reading(black=0, white=1023)}
    assert warnings_of(hot.read()) == [
        "images: 4 are 16-bit grey; all but 0.02 % of their pixels lie in 80..480 (they reach from "
        "80 to 65535), so 0..1023 is shown as black to white; data.intensity=[BLACK,WHITE] says "
        "otherwise"
    ]
    asked = hot.read(reading=Reading(black=80, white=480))
    assert {it.reading for it in asked.samples["train"]} == {Reading(black=80, white=480)}
    assert asked.warnings == []


def test_what_lies_in_a_narrow_band_is_spread(folder: Folder) -> None:
    values = np.random.default_rng(0).integers(30000, 30401, (4, 12, 16), dtype=np.uint16)
    values[0, 0, :2] = 30000, 30400
    _deep(folder, values)
    (reading,) = {sample.reading for sample in folder.read().samples["train"]}
    assert reading == Reading(black=30000, white=30400)
    read = read_image(folder.root / "images" / "a.tif", None, reading)
    assert (read.min(), read.max()) == (0, 255)


def test_floats_are_shown_from_zero_to_one_and_negative_numbers_from_end_to_end(
    folder: Folder,
) -> None:
    values = np.random.default_rng(0).random((4, 12, 16), dtype=np.float32)
    _deep(folder, values)
    listing = folder.read()
    assert listing.problems == []
    assert {it.reading for it in listing.samples["train"]} == {Reading(black=0, white=1)}
    assert "4 are floating-point grey; the largest value" in warnings_of(listing)[0]
    signed = (values * 4000 - 1000).astype(np.int16)
    _deep(folder, signed)
    (reading,) = {sample.reading for sample in folder.read().samples["train"]}
    assert reading == Reading(black=signed.min(), white=signed.max())


def test_few_levels_are_told(folder: Folder) -> None:
    values = np.random.default_rng(0).integers(100, 104, (4, 12, 16), dtype=np.uint16)
    values[0, 0, :7] = 4000
    _deep(folder, values)
    assert "and 98 % of the pixels fall into 1 of 256 levels" in warnings_of(folder.read())[0]


def test_pages_and_channels_are_refused_until_one_is_chosen(folder: Folder) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 12, 16), dtype=np.uint8)
    _deep(folder, values)
    refused = r"images/a\.tif: 5 pages; data\.page=0 \.\.\. 4, max or mean"
    with pytest.raises(UserError, match=refused):
        folder.read()
    listing = folder.read(reading=Reading("max"))
    assert listing.problems == []
    assert {it.reading for it in listing.samples["train"]} == {Reading("max")}
    with pytest.raises(UserError, match=r"data\.page=5, of 5 page"):
        folder.read(reading=Reading(5))


def test_what_no_image_has_is_not_accepted(folder: Folder) -> None:
    with pytest.raises(UserError, match=r"data\.page=max: no image has more than one page"):
        folder.read(reading=Reading("max"))
    with pytest.raises(UserError, match=r"data\.intensity=\[0,9\]: no image has more than 8 bits"):
        folder.read(reading=Reading(black=0, white=9))


def test_eight_bit_images_are_never_decoded_for_that(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("phasewise.data.brightness.read_raw", refuse)
    assert folder.read().samples["train"][0].reading == AS_IS
