from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phasewise.data.images import read_image, read_mask
from phasewise.data.voc import check_mask_values, read_voc
from phasewise.errors import BadSample, UserError
from tests.phasewise.data.folders import an_object, annotation, names_of, problems_of, write

SHARED = Path(__file__).parents[3].parent / "shared"
DATA = SHARED / "data"
needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")


class Voc:
    """A small data set in VOC layout, written file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
            (root / folder).mkdir(parents=True)
        (root / "labels.txt").write_text("background\ncat\ndog\n")

    def add(
        self,
        name: Any,
        *,
        xml: Any = "",
        mask: Any = True,
        suffix: Any = ".jpg",
        size: Any = (40, 30),
    ) -> None:
        Image.new("RGB", size).save(self.root / "JPEGImages" / (name + suffix))
        if xml is not None:
            text = xml or annotation(an_object())
            (self.root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
        if mask:
            Image.new("L", size, 1).save(self.root / "SegmentationClass" / f"{name}.png")

    def list(self, file: str, text: str | bytes) -> None:
        write(self.root / "ImageSets" / file, text)

    def read(self, seed: int = 0) -> Any:
        return read_voc(self.root, split_seed=seed)


@pytest.fixture
def voc(tmp_path: Path) -> Voc:
    made = Voc(tmp_path / "data set")
    for name in ("a", "b", "c", "d"):
        made.add(name)
    made.list("Main/train.txt", "a\nb\n")
    made.list("Main/val.txt", "c\nd\n")
    return made


def test_mask_values() -> None:
    check_mask_values(np.array([[0, 2, 255]], np.uint8), 3, "m.png")
    with pytest.raises(BadSample, match=r"m.png: mask values 3, 254 where.*0\.\.2 or 255"):
        check_mask_values(np.array([[0, 3, 254, 255]], np.uint8), 3, "m.png")


# A whole folder


def test_a_sound_folder(voc: Voc) -> None:
    listing = voc.read()
    assert names_of(listing) == {"train": ["a", "b"], "val": ["c", "d"], "test": []}
    assert listing.class_names == ["background", "cat", "dog"]
    assert (listing.problems, listing.warnings) == ([], [])
    assert listing.lists == ["ImageSets/Main/train.txt", "ImageSets/Main/val.txt"]
    sample = listing.samples["train"][0]
    assert sample.image == voc.root / "JPEGImages" / "a.jpg"
    assert sample.mask == voc.root / "SegmentationClass" / "a.png"
    assert sample.size == (40, 30)
    assert sample.objects[0].box == (2, 1, 10, 8)


def test_lists_of_both_kinds_are_united(voc: Voc) -> None:
    for name in ("e", "f"):
        voc.add(name, xml=None)
    voc.list("Segmentation/train.txt", "a\ne\n")
    voc.list("Segmentation/val.txt", "f\n")
    listing = voc.read()
    assert names_of(listing) == {"train": ["a", "b", "e"], "val": ["c", "d", "f"], "test": []}
    assert listing.samples["val"][-1].objects is None


def test_partly_labelled_images_are_used_and_mentioned_once_per_kind(voc: Voc) -> None:
    for name in ("e", "f", "g"):
        voc.add(name, xml=None)
    voc.add("h", mask=False)
    voc.add("i", xml=annotation())
    voc.list("Main/train.txt", "a\nb\ne\nf\ng\nh\ni")
    listing = voc.read()
    assert len(listing.samples["train"]) == 7
    assert [str(warning) for warning in listing.warnings] == [
        "Annotations: 3 of 9 images have no annotation; they train without boxes",
        "SegmentationClass: 1 of 9 images have no mask; they train without masks",
    ]
    assert listing.samples["train"][-1].objects == ()


def test_no_lists_means_a_hashed_split(tmp_path: Path) -> None:
    voc = Voc(tmp_path)
    for index in range(40):
        voc.add(f"{index:02d}")
    listing = voc.read()
    assert [len(part) for part in listing.samples.values()] == [28, 6, 6]
    assert listing.lists == []
    assert names_of(voc.read(1)) != names_of(listing)
    assert names_of(voc.read()) == names_of(listing)


def test_lists_with_mark_crlf_spaces_and_umlauts(voc: Voc) -> None:
    for name in ("Straße 7", unicodedata.normalize("NFD", "Bär 1")):
        voc.add(name)
    voc.list("Main/train.txt", "\ufeffStraße 7\r\n\r\nBär 1\r\na\r\na\r\n".encode())
    listing = voc.read()
    assert names_of(listing)["train"] == ["Straße 7", "Bär 1", "a"]
    assert [str(warning) for warning in listing.warnings] == [
        "ImageSets/Main/train.txt: lists 'a' more than once",
        "JPEGImages: 1 of 6 annotated images are in no list: not used",
    ]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".bmp", ".WebP", ".tif", ".TIFF"])
def test_extensions_in_any_case(voc: Voc, suffix: str) -> None:
    voc.add("e", suffix=suffix)
    (voc.root / "Annotations" / "e.xml").rename(voc.root / "Annotations" / "e.XML")
    voc.list("Main/train.txt", "e")
    assert voc.read().samples["train"][0].image.name == f"e{suffix}"


def test_every_bad_sample_is_reported_and_the_rest_read(voc: Voc) -> None:
    def add(name: Any, **settings: Any) -> Any:
        voc.add(name, **settings)
        return name

    names = ["a"]
    names += [add("text", xml=annotation(an_object()))]
    (voc.root / "JPEGImages" / "text.jpg").write_text("I am text")
    names += [add("alone", xml=None, mask=False)]
    names += [add("mask size"), add("colour"), add("laughs", xml="<!DOCTYPE x><annotation/>")]
    Image.new("L", (30, 40)).save(voc.root / "SegmentationClass" / "mask size.png")
    Image.new("CMYK", (40, 30)).save(voc.root / "SegmentationClass" / "colour.tif")
    (voc.root / "SegmentationClass" / "colour.png").unlink()
    names += [
        add("class", xml=annotation(an_object("dgo"))),
        add("box", xml=annotation(an_object(xmax=42))),
    ]
    names += [add("both", xml=annotation(an_object("dgo")))]
    (voc.root / "SegmentationClass" / "both.png").write_bytes(b"")
    voc.list(
        "Main/train.txt", "\n".join([*names, "gone", "gone.jpg", "../../secret", "/etc/passwd"])
    )
    listing = voc.read()
    assert names_of(listing) == {"train": ["a"], "val": ["c", "d"], "test": []}
    found = problems_of(listing)
    expected = {
        "JPEGImages/text.jpg": "not an image",
        "JPEGImages/alone.jpg": "neither a mask nor an annotation",
        "SegmentationClass/mask size.png": "the mask is 30x40, its image 40x30",
        "SegmentationClass/colour.tif": "mode CMYK",
        "Annotations/laughs.xml": "DTD",
        "Annotations/class.xml": "nearest known is 'dog'",
        "Annotations/box.xml": "outside the image",
        "Annotations/both.xml": "unknown class",
        "SegmentationClass/both.png": "empty",
        "JPEGImages/gone": "listed in ImageSets/Main/train.txt, but there is no such image",
        "JPEGImages/gone.jpg": "there is no such image",
        "../../secret": "'..' (listed in ImageSets/Main/train.txt)",
        "/etc/passwd": "absolute",
    }
    assert found.keys() == expected.keys()
    for file, reason in expected.items():
        assert reason in found[file]


def test_a_bad_sample_in_two_splits_is_one_problem(voc: Voc) -> None:
    voc.list("Main/train.txt", "a\nb\ngone\n")
    voc.list("Main/test.txt", "gone\na\n")
    listing = voc.read()
    assert len(listing.problems) == 1
    assert [str(warning) for warning in listing.warnings] == [
        "a: is in train and test",
        "gone: is in train and test",
    ]


def test_a_turned_photo_is_measured_upright(voc: Voc) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(voc.root / "JPEGImages" / "a.jpg", exif=exif)
    listing = voc.read()
    assert (listing.problems, listing.warnings) == ([], [])
    assert listing.samples["train"][0].size == (40, 30)


def test_labels(voc: Voc) -> None:
    labels = voc.root / "labels.txt"
    labels.write_bytes(b"\xef\xbb\xbf_background_\r\ndog\r\n\r\n")
    assert voc.read().class_names == ["background", "dog"]
    labels.write_text("dog\ncat\n")
    assert voc.read().class_names == ["background", "dog", "cat"]
    for text, reason in (
        ("dog\nbackground\n", "must be the first line"),
        ("dog\ndog\n", "more than once"),
        ("\n", "names 0 classes"),
        ("\n".join(map(str, range(255))), "names 255 classes"),
    ):
        labels.write_text(text)
        with pytest.raises(UserError, match=reason):
            voc.read()


def test_classes_are_found_in_the_annotations_where_labels_are_missing(voc: Voc) -> None:
    (voc.root / "labels.txt").unlink()
    voc.add("d", xml=annotation(an_object("zebra"), an_object("ape")))
    listing = voc.read()
    assert listing.class_names == ["background", "ape", "dog", "zebra"]
    assert "1 = ape, 2 = dog, 3 = zebra)" in str(listing.warnings[0])
    for file in (voc.root / "Annotations").iterdir():
        file.write_text(annotation())
    with pytest.raises(UserError, match=r"0 classes, and it has no labels.txt"):
        read_voc(voc.root, split_seed=0, mask_values="none")


def test_links_and_clutter(voc: Voc, tmp_path: Path) -> None:
    images = voc.root / "JPEGImages"
    images.rename(tmp_path / "elsewhere")
    images.symlink_to(tmp_path / "elsewhere")
    (images / "._a.jpg").write_bytes(b"what macOS leaves")
    (images / "Thumbs.db").write_bytes(b"what Windows leaves")
    Image.new("RGB", (40, 30)).save(images / "a.png")
    for file in (voc.root / "ImageSets" / "Main").iterdir():
        file.unlink()
    listing = voc.read()
    assert listing.problems == []
    assert [str(warning) for warning in listing.warnings] == [
        "JPEGImages/a.png: ignored: a.jpg is used"
    ]


def test_a_file_name_that_is_no_text_is_mentioned(voc: Voc) -> None:
    path = bytes(voc.root / "JPEGImages") + b"/B\xe4r.jpg"
    try:
        with open(path, "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (warning,) = voc.read().warnings
    assert "not UTF-8" in warning.reason
    assert str(warning).isascii()


def _user_error(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_voc(root, split_seed=0)
    return str(caught.value)


def test_wrong_roots_are_explained(voc: Voc, tmp_path: Path) -> None:
    assert "does not exist" in _user_error(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "is a file" in _user_error(tmp_path / "file")
    message = _user_error(voc.root / "ImageSets")
    assert "has no JPEGImages" in message
    assert "Folders there: Main" in message
    year = tmp_path / "VOCdevkit" / "VOC2012"
    year.parent.mkdir()
    voc.root.rename(year)
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        assert f"That layout is in data.root={year}" in _user_error(root)


def test_folders_without_labels_or_images(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    assert "no Annotations and no SegmentationClass" in _user_error(tmp_path)
    (tmp_path / "Annotations").mkdir()
    assert "holds no image" in _user_error(tmp_path)


def test_empty_splits(voc: Voc) -> None:
    voc.list("Main/val.txt", "\n")
    message = _user_error(voc.root)
    assert "no sample for val. Lists read: ImageSets/Main/train.txt" in message
    voc.list("Main/val.txt", "gone\ngone too\n")
    message = _user_error(voc.root)
    told = f"2 samples in data.root={voc.root} cannot be used, which leaves val empty:"
    assert told in message
    assert "JPEGImages/gone too" in message
    (voc.root / "ImageSets" / "Main" / "train.txt").unlink()
    assert "leaves train and val empty" in _user_error(voc.root)


def test_reading_does_not_import_torch() -> None:
    code = "import sys, phasewise.data.voc; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


@needs_shared
@pytest.mark.parametrize(
    ("folder", "counts", "masks", "objects"),
    [
        ("coco128_voc20", [97, 100, 0], 155, 967),
        ("pennfudan_voc", [120, 50, 0], 170, 423),
        ("voc2012_genuine_fixture", [1, 1, 0], 1, None),
        ("pets_heads", [296, 74, 0], 0, 370),
    ],
)
def test_real_sets_have_no_problems(folder: str, counts: Any, masks: int, objects: Any) -> None:
    listing = read_voc(DATA / folder, split_seed=0)
    assert listing.problems == []
    assert [len(part) for part in listing.samples.values()] == counts
    samples = [sample for part in listing.samples.values() for sample in part]
    assert sum(sample.mask is not None for sample in samples) == masks
    if objects is not None:
        assert sum(len(sample.objects or ()) for sample in samples) == objects
    for sample in samples[::10]:
        assert read_image(sample.image).shape[1::-1] == sample.size
        if sample.mask:
            mask = read_mask(sample.mask)
            assert mask.shape[::-1] == sample.size
            check_mask_values(mask, len(listing.class_names), sample.name)


@needs_shared
def test_the_genuine_file_value_by_value() -> None:
    listing = read_voc(DATA / "voc2012_genuine_fixture", split_seed=0)
    samples = {sample.name: sample for part in listing.samples.values() for sample in part}
    genuine = samples["2007_000063"]
    assert genuine.objects is not None
    assert genuine.mask is not None
    dog, chair = genuine.objects
    assert (dog.class_name, dog.box, dog.difficult) == ("dog", (122, 114, 379, 275), False)
    assert (chair.class_name, chair.box) == ("chair", (74, 0, 428, 375))
    mask = read_mask(genuine.mask)
    assert sorted(np.unique(mask)) == [0, 9, 12, 255]  # chair is 9 and dog 12 in VOC
    assert listing.class_names[9] == "chair"
    assert listing.class_names[12] == "dog"
    # The mask's dog and its box are one animal: the boundary between them is void.
    rows, columns = np.nonzero(mask == 12)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dog.box, atol=8
    )
    assert samples["2011_003353"].mask is None
