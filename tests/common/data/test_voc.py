from __future__ import annotations

import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.images import read_image, read_mask
from common.data.voc import check_mask_values, find_layouts, parse_annotation, read_voc
from common.errors import BadSample, UserError

SHARED = Path(__file__).parents[3].parent / "shared"
DATA = SHARED / "data"
needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")

BOX = {"xmin": "3", "ymin": "2", "xmax": "10", "ymax": "8"}
OBJECT = "<object><name>dog</name>{0}</object>"


def _xml(*objects: str, size: tuple[int, int] | None = (40, 30)) -> str:
    declared = ""
    if size:
        declared = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{declared}{''.join(objects)}</annotation>"


def _object(name: str = "dog", extra: str = "", **box: object) -> str:
    edges = "".join(f"<{tag}>{value}</{tag}>" for tag, value in (BOX | box).items())
    return f"<object><name>{name}</name>{extra}<bndbox>{edges}</bndbox></object>"


def _parse(tmp_path: Path, text: str | bytes, **settings):
    path = tmp_path / "x.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_annotation(path, "Annotations/x.xml", **settings)


def _refusal(tmp_path: Path, text: str | bytes, **settings) -> str:
    with pytest.raises(BadSample) as caught:
        _parse(tmp_path, text, **settings)
    assert caught.value.problem.file == "Annotations/x.xml"
    return caught.value.problem.reason


class Voc:
    """A small data set in VOC layout, written file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
            (root / folder).mkdir(parents=True)
        (root / "labels.txt").write_text("background\ncat\ndog\n")

    def add(self, name, *, xml="", mask=True, suffix=".jpg", size=(40, 30)) -> None:
        Image.new("RGB", size).save(self.root / "JPEGImages" / (name + suffix))
        if xml is not None:
            text = xml or _xml(_object())
            (self.root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
        if mask:
            Image.new("L", size, 1).save(self.root / "SegmentationClass" / f"{name}.png")

    def list(self, file: str, text: str | bytes) -> None:
        path = self.root / "ImageSets" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def read(self, seed: int = 0):
        return read_voc(self.root, split_seed=seed)


@pytest.fixture
def voc(tmp_path) -> Voc:
    made = Voc(tmp_path / "data set")
    for name in ("a", "b", "c", "d"):
        made.add(name)
    made.list("Main/train.txt", "a\nb\n")
    made.list("Main/val.txt", "c\nd\n")
    return made


def _names(listing) -> dict[str, list[str]]:
    return {split: [sample.name for sample in part] for split, part in listing.samples.items()}


def _problems(listing) -> dict[str, str]:
    assert len({problem.file for problem in listing.problems}) == len(listing.problems)
    return {problem.file: problem.reason for problem in listing.problems}


# One annotation


def test_boxes_are_one_based_and_inclusive(tmp_path):
    whole = _object(xmin=1, ymin=1, xmax=40, ymax=30)
    found = _parse(tmp_path, _xml(whole, _object("cat", "<difficult>1</difficult>")), size=(40, 30))
    assert found.objects[0].box == (0, 0, 40, 30)
    assert found.objects[1].box == (2, 1, 10, 8)
    assert [item.class_name for item in found.objects] == ["dog", "cat"]
    assert [item.difficult for item in found.objects] == [False, True]
    assert found.declared_size == (40, 30)


def test_fractional_coordinates_as_in_voc2012(tmp_path):
    text = _xml(_object(xmin="45.70000076293945", xmax="80.5"), size=None)
    found = _parse(tmp_path, text)
    assert found.objects[0].box == pytest.approx((44.70000076293945, 1, 80.5, 8))
    assert found.declared_size is None


def test_rounding_beyond_the_edge_is_clipped(tmp_path):
    found = _parse(tmp_path, _xml(_object(xmin=0.6, xmax=40.4)), size=(40, 30))
    assert found.objects[0].box == (0, 1, 40, 8)


def test_boxes_of_parts_are_ignored(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>99</xmin></bndbox></part>"
    before, after = _object(extra=part), _object().replace("</object>", part + "</object>")
    found = _parse(tmp_path, _xml(before, after), size=(40, 30))
    assert [item.box for item in found.objects] == [(2, 1, 10, 8)] * 2


def test_an_annotation_may_name_no_object(tmp_path):
    assert _parse(tmp_path, _xml()).objects == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OBJECT.format(""), "object 1 ('dog'): no bndbox"),
        (_object(xmin=""), "no xmin"),
        (_object().replace("<ymax>8</ymax>", ""), "no ymax"),
        (_object(xmin="abc"), "xmin='abc' is not a number"),
        (_object(xmax="nan"), "xmax is not finite"),
        (_object(xmax="inf"), "xmax is not finite"),
        (_object(xmax="1e999"), "xmax is not finite"),
        (_object(xmax=3), "xmax=3 <= xmin=3"),
        (_object(ymin=9), "ymax=8 <= ymin=9"),
        (_object(xmin=0), "x 0..10 lies outside the image 1..40"),
        (_object(xmin=-5, xmax=-1), "x -5..-1 lies outside the image 1..40"),
        (_object(xmax=41), "x 3..41 lies outside the image 1..40"),
        (_object(ymax=31), "y 2..31 lies outside the image 1..30"),
        (_object(""), "no class name"),
        (_object("background"), "background cannot be the class"),
        (_object("dgo"), "object 1 ('dgo'): unknown class; the nearest known is 'dog'"),
        (_object("zzz"), "unknown class; the nearest known is"),
    ],
)
def test_objects_that_cannot_be_used(tmp_path, text, reason):
    names = ["background", "cat", "dog"]
    assert reason in _refusal(tmp_path, _xml(text), size=(40, 30), class_names=names)


def test_all_problems_of_a_file_are_one_reason(tmp_path):
    objects = (_object(xmin="a", ymax="b"), _object(), _object("dgo", xmax=1, ymax=99))
    reason = _refusal(tmp_path, _xml(*objects), size=(40, 30), class_names=["background", "dog"])
    assert reason.count("object 1") == 2
    assert "object 2" not in reason
    assert reason.count("object 3") == 3
    many = _refusal(tmp_path, _xml(*[_object(xmin="a")] * 1000))
    assert many.endswith("and 995 more")
    assert len(many) < 400


def test_hostile_text_stays_on_its_line(tmp_path):
    name = "a&#10;b" + "red" * 1000
    reason = _refusal(
        tmp_path, _xml(_object(name, xmin="&#10;1" * 500)), class_names=["background"]
    )
    assert "\n" not in reason
    assert len(reason) < 300


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))


@pytest.mark.parametrize(
    "text",
    [
        f"<!DOCTYPE annotation [{LAUGHS}]><annotation>&l9;</annotation>",
        '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<annotation><object><name>&x;</name></object></annotation>",
        '<!DOCTYPE annotation SYSTEM "http://localhost:9/a.dtd"><annotation/>',
        "<!DOCTYPE annotation><annotation/>",
        f"<!DOCTYPE annotation [{LAUGHS}]><annotation>&l9;</annotation>".encode("utf-16"),
    ],
)
def test_entities_and_dtds_are_refused_at_once(tmp_path, text):
    start = time.perf_counter()
    assert _refusal(tmp_path, text) == "has a DTD or entities, which are refused"
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"text",
        b"<annotation>",
        b"<annotation>&nbsp;</annotation>",
        b"\xff\xfe\x00",
        '<?xml version="1.0" encoding="utf-8"?><annotation>ü</annotation>'.encode("latin-1"),
        b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        b'<?xml version="1.0" encoding="big5"?><annotation/>',
        b'<?xml version="1.0" encoding="utf-7"?><annotation/>',
    ],
)
def test_what_is_not_xml(tmp_path, text):
    assert _refusal(tmp_path, text).startswith("not XML: ")


def test_other_xml_and_unreadable_files(tmp_path):
    assert "root is <svg>" in _refusal(tmp_path, "<svg/>")
    with pytest.raises(BadSample, match="cannot be read"):
        parse_annotation(tmp_path / "none.xml", "x")
    deep = "<a>" * 100_000 + "</a>" * 100_000
    assert _parse(tmp_path, _xml(deep)).objects == ()


def test_mask_values():
    check_mask_values(np.array([[0, 2, 255]], np.uint8), 3, "m.png")
    with pytest.raises(BadSample, match=r"m.png: mask values 3, 254 where.*0\.\.2 or 255"):
        check_mask_values(np.array([[0, 3, 254, 255]], np.uint8), 3, "m.png")


# A whole folder


def test_a_sound_folder(voc):
    listing = voc.read()
    assert _names(listing) == {"train": ["a", "b"], "val": ["c", "d"], "test": []}
    assert listing.class_names == ["background", "cat", "dog"]
    assert (listing.problems, listing.warnings) == ([], [])
    assert listing.lists == ["ImageSets/Main/train.txt", "ImageSets/Main/val.txt"]
    sample = listing.samples["train"][0]
    assert sample.image == voc.root / "JPEGImages" / "a.jpg"
    assert sample.mask == voc.root / "SegmentationClass" / "a.png"
    assert sample.size == (40, 30)
    assert sample.objects[0].box == (2, 1, 10, 8)


def test_lists_of_both_kinds_are_united(voc):
    for name in ("e", "f"):
        voc.add(name, xml=None)
    voc.list("Segmentation/train.txt", "a\ne\n")
    voc.list("Segmentation/val.txt", "f\n")
    listing = voc.read()
    assert _names(listing) == {"train": ["a", "b", "e"], "val": ["c", "d", "f"], "test": []}
    assert listing.samples["val"][-1].objects is None


def test_partly_labelled_images_are_used_and_mentioned_once_per_kind(voc):
    for name in ("e", "f", "g"):
        voc.add(name, xml=None)
    voc.add("h", mask=False)
    voc.add("i", xml=_xml())
    voc.list("Main/train.txt", "a\nb\ne\nf\ng\nh\ni")
    listing = voc.read()
    assert len(listing.samples["train"]) == 7
    assert [str(warning) for warning in listing.warnings] == [
        "Annotations: 3 of 9 images have no annotation; they train segmentation only",
        "SegmentationClass: 1 of 9 images have no mask; they train detection only",
    ]
    assert listing.samples["train"][-1].objects == ()


def test_no_lists_means_a_hashed_split(tmp_path):
    voc = Voc(tmp_path)
    for index in range(40):
        voc.add(f"{index:02d}")
    listing = voc.read()
    assert [len(part) for part in listing.samples.values()] == [28, 6, 6]
    assert listing.lists == []
    assert _names(voc.read(1)) != _names(listing)
    assert _names(voc.read()) == _names(listing)


def test_lists_with_mark_crlf_spaces_and_umlauts(voc):
    for name in ("Straße 7", unicodedata.normalize("NFD", "Bär 1")):
        voc.add(name)
    voc.list("Main/train.txt", "\ufeffStraße 7\r\n\r\nBär 1\r\na\r\na\r\n".encode())
    listing = voc.read()
    assert _names(listing)["train"] == ["Straße 7", "Bär 1", "a"]
    assert [str(warning) for warning in listing.warnings] == [
        "ImageSets/Main/train.txt: lists 'a' more than once"
    ]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".bmp", ".WebP", ".tif", ".TIFF"])
def test_extensions_in_any_case(voc, suffix):
    voc.add("e", suffix=suffix)
    (voc.root / "Annotations" / "e.xml").rename(voc.root / "Annotations" / "e.XML")
    voc.list("Main/train.txt", "e")
    assert voc.read().samples["train"][0].image.name == f"e{suffix}"


def test_every_bad_sample_is_reported_and_the_rest_read(voc):
    def add(name, **settings):
        voc.add(name, **settings)
        return name

    names = ["a"]
    names += [add("text", xml=_xml(_object()))]
    (voc.root / "JPEGImages" / "text.jpg").write_text("I am text")
    names += [add("alone", xml=None, mask=False)]
    names += [add("mask size"), add("colour"), add("laughs", xml="<!DOCTYPE x><annotation/>")]
    Image.new("L", (30, 40)).save(voc.root / "SegmentationClass" / "mask size.png")
    Image.new("RGB", (40, 30)).save(voc.root / "SegmentationClass" / "colour.png")
    names += [add("class", xml=_xml(_object("dgo"))), add("box", xml=_xml(_object(xmax=41)))]
    names += [add("both", xml=_xml(_object("dgo")))]
    (voc.root / "SegmentationClass" / "both.png").write_bytes(b"")
    voc.list("Main/train.txt", "\n".join([*names, "gone", "b.jpg", "../../secret", "/etc/passwd"]))
    listing = voc.read()
    assert _names(listing) == {"train": ["a"], "val": ["c", "d"], "test": []}
    found = _problems(listing)
    expected = {
        "JPEGImages/text.jpg": "not an image",
        "JPEGImages/alone.jpg": "neither a mask nor an annotation",
        "SegmentationClass/mask size.png": "the mask is 30x40, its image 40x30",
        "SegmentationClass/colour.png": "mode RGB",
        "Annotations/laughs.xml": "DTD",
        "Annotations/class.xml": "nearest known is 'dog'",
        "Annotations/box.xml": "outside the image",
        "Annotations/both.xml": "unknown class",
        "SegmentationClass/both.png": "empty",
        "JPEGImages/gone": "listed in ImageSets/Main/train.txt, but there is no such image",
        "JPEGImages/b.jpg": "without their extension",
        "../../secret": "'..' (listed in ImageSets/Main/train.txt)",
        "/etc/passwd": "absolute",
    }
    assert found.keys() == expected.keys()
    for file, reason in expected.items():
        assert reason in found[file]


def test_a_bad_sample_in_two_splits_is_one_problem(voc):
    voc.list("Main/train.txt", "a\nb\ngone\n")
    voc.list("Main/test.txt", "gone\na\n")
    listing = voc.read()
    assert len(listing.problems) == 1
    assert [str(warning) for warning in listing.warnings] == [
        "a: is in train and test",
        "gone: is in train and test",
    ]


def test_size_tags_that_disagree_are_warnings(voc):
    voc.add("a", xml=_xml(_object(), size=(400, 300)))
    voc.add("b", xml=_xml(_object()).replace("<width>40<", "<width>?<"))
    voc.add("c", xml=_xml(_object(), size=None))
    listing = voc.read()
    assert len(listing.samples["train"]) == 2
    assert [str(warning) for warning in listing.warnings] == [
        "Annotations/a.xml: its size tag says 400x300, the image is 40x30",
        "Annotations/b.xml: its size tag says 0x30, the image is 40x30",
    ]


def test_a_turned_photo_is_measured_upright(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(voc.root / "JPEGImages" / "a.jpg", exif=exif)
    listing = voc.read()
    assert (listing.problems, listing.warnings) == ([], [])
    assert listing.samples["train"][0].size == (40, 30)


def test_labels(voc):
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


def test_classes_are_found_in_the_annotations_where_labels_are_missing(voc):
    (voc.root / "labels.txt").unlink()
    voc.add("d", xml=_xml(_object("zebra"), _object("ape")))
    listing = voc.read()
    assert listing.class_names == ["background", "ape", "dog", "zebra"]
    assert "1 = ape, 2 = dog, 3 = zebra)" in str(listing.warnings[0])
    for file in (voc.root / "Annotations").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"0 classes, and it has no labels.txt"):
        voc.read()


def test_links_and_clutter(voc, tmp_path):
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


def test_a_file_name_that_is_no_text_is_mentioned(voc):
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


def test_wrong_roots_are_explained(voc, tmp_path):
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
        assert find_layouts(root) == [year]
    assert find_layouts(year) == [year]


def test_folders_without_labels_or_images(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    assert "no Annotations and no SegmentationClass" in _user_error(tmp_path)
    (tmp_path / "Annotations").mkdir()
    assert "holds no image" in _user_error(tmp_path)


def test_empty_splits(voc):
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


def test_reading_does_not_import_torch():
    code = "import sys, common.data.voc; sys.exit('torch' in sys.modules)"
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
def test_real_sets_have_no_problems(folder, counts, masks, objects):
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
def test_the_genuine_file_value_by_value():
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
