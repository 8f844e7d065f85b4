"""Where tools leave images, XML and masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from localization.readers import read_voc_boxes
from phasewise.data.voc import read_voc
from phasewise.errors import UserError
from tests.phasewise.data.folders import an_object, annotation, names_of, problems_of, write


def put(root: Path, image: str, xml: str | None = None, mask: str | None = None) -> None:
    for file in (image, mask):
        if file:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / image)
    if xml:
        write(root / xml, annotation(an_object()))
    if mask:
        pixels = np.zeros((30, 40), np.uint8)
        pixels[3:9, 3:9] = 1
        Image.fromarray(pixels).save(root / mask)


def read(root: Path) -> Any:
    return read_voc(root, split_seed=0)


def everything(listing: Any) -> dict[str, Any]:
    assert listing.problems == []
    return {it.name: it for part in listing.samples.values() for it in part}


def notes(listing: Any) -> list[str]:
    return [str(it) for it in listing.warnings if it.file in ("data.root", "JPEGImages", "images")]


@pytest.mark.parametrize(
    ("image", "xml", "told"),
    [
        ("images/{}.jpg", "annotations/{}.xml", "images in images, XML in annotations"),
        ("Images/{}.jpg", "Annotations/{}.xml", "images in Images, XML in Annotations"),
        ("images/{}.jpg", "annots/{}.xml", "images in images, XML in annots"),
        ("images/{}.jpg", "annotations/xmls/{}.xml", "XML in annotations/xmls"),
        ("images/{}.jpg", "images/{}.xml", "images in images, XML in images"),
        ("{}.jpg", "{}.xml", "images in ., XML in ."),
        ("{}.jpg", "xml/{}.xml", "images in ., XML in xml"),
        ("images/{}.jpg", "{}.xml", "images in images, XML in ."),
        ("JPEGImages/{}.jpg", "JPEGImages/{}.xml", "images in JPEGImages, XML in JPEGImages"),
    ],
)
def test_folders_as_labelimg_leaves_them(tmp_path: Path, image: str, xml: str, told: str) -> None:
    for i in range(4):
        put(tmp_path, image.format(i), xml.format(i))
    listing = read(tmp_path)
    assert sorted(everything(listing)) == ["0", "1", "2", "3"]
    assert everything(listing)["0"].objects[0].box == (2, 1, 10, 8)
    (note,) = (str(it) for it in listing.warnings if it.file == "data.root")
    assert told in note
    assert len(read_voc_boxes(tmp_path, pick="only", split_seed=0).samples["train"]) == 2


def test_lists_of_such_a_folder(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path, f"images/{i}.jpg", f"annotations/{i}.xml")
    write(tmp_path / "train.txt", "0\n1\n")
    write(tmp_path / "val.txt", "3\n")
    listing = read(tmp_path)
    assert names_of(listing) == {"train": ["0", "1"], "val": ["3"], "test": []}
    assert notes(listing)[1:] == ["images: 1 of 4 annotated images are in no list: not used"]


def test_a_folder_per_split_as_roboflow_exports_it(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for i in range(count):
            put(tmp_path, f"{split}/{i}_jpg.rf.ab{i}.jpg", f"{split}/{i}_jpg.rf.ab{i}.xml")
    listing = read(tmp_path)
    assert {split: len(part) for split, part in listing.samples.items()} == {
        "train": 3, "val": 2, "test": 1
    }  # fmt: skip
    assert "train/0_jpg.rf.ab0" in everything(listing)
    assert listing.lists == ["test/", "train/", "valid/"]
    assert "and so on for test, train, valid" in notes(listing)[0]


def test_split_folders_with_folders_in_them(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(2):
            put(tmp_path, f"{split}/images/{i}.jpg", f"{split}/annotations/{i}.xml")
    assert names_of(read(tmp_path)) == {
        "train": ["train/0", "train/1"], "val": ["val/0", "val/1"], "test": []
    }  # fmt: skip


def test_labelme_keeps_arrays_in_one_folder_and_masks_in_another(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path, f"JPEGImages/{i}.jpg", mask=f"SegmentationClassPNG/{i}.png")
        write(tmp_path / f"SegmentationClass/{i}.npy", b"an array")
    (tmp_path / "class_names.txt").write_text("_background_\ndog\n")
    listing = read(tmp_path)
    assert everything(listing)["1"].mask == tmp_path / "SegmentationClassPNG" / "1.png"
    assert listing.class_names == ["background", "dog"]


def test_files_called_by_the_whole_name_of_an_image(tmp_path: Path) -> None:
    for i in range(3):
        put(
            tmp_path,
            f"JPEGImages/{i}.jpg",
            f"Annotations/{i}.jpg.xml",
            f"SegmentationClass/{i}.jpg.png",
        )
    put(tmp_path, "JPEGImages/a.b.jpg", "Annotations/a.b.xml")
    found = everything(read(tmp_path))
    assert sorted(found) == ["0", "1", "2", "a.b"]
    assert found["0"].objects and found["0"].mask
    assert found["a.b"].objects and not found["a.b"].mask


def test_lists_with_extensions_or_paths(tmp_path: Path) -> None:
    for name in ("0", "1", "2", "a.b"):
        put(tmp_path, f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    lists = tmp_path / "ImageSets" / "Main"
    write(lists / "train.txt", "0.jpg\n/export/VOC/JPEGImages/1.jpg\na.b\n")
    write(lists / "val.txt", "C:\\data\\JPEGImages\\2.jpg\n../../1.jpg\n/etc/passwd\n")
    listing = read(tmp_path)
    assert names_of(listing) == {"train": ["0", "1", "a.b"], "val": ["2"], "test": []}
    assert problems_of(listing).keys() == {"../../1.jpg", "/etc/passwd"}
    (note,) = (str(it) for it in listing.warnings if it.file == "ImageSets/Main/train.txt")
    assert note.endswith(
        "3 entries have an extension or a folder: taken as names of images (0.jpg)"
    )


def test_images_that_no_list_names_are_counted(tmp_path: Path) -> None:
    for name in ("0", "1", "2", "3"):
        put(tmp_path, f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    put(tmp_path, "JPEGImages/unlabelled.jpg")
    write(tmp_path / "ImageSets/Main/train.txt", "0\n")
    write(tmp_path / "ImageSets/Main/val.txt", "1\n")
    told = "JPEGImages: 2 of 4 annotated images are in no list: not used"
    assert notes(read(tmp_path)) == [told]
    found = read_voc_boxes(tmp_path, pick="only", split_seed=0)
    assert told in [str(it) for it in found.warnings]


def test_a_folder_near_by_is_named(tmp_path: Path) -> None:
    for i in range(2):
        put(tmp_path, f"set/images/{i}.jpg", f"set/annotations/{i}.xml")
    with pytest.raises(UserError, match=f"That layout is in data.root={tmp_path / 'set'}"):
        read(tmp_path)
    shutil.rmtree(tmp_path / "set" / "annotations")
    with pytest.raises(UserError, match="Move or link the images to JPEGImages"):
        read(tmp_path)


def test_copies_of_one_photograph_stay_together(tmp_path: Path) -> None:
    for i in range(6):
        for copy in "abc":
            name = f"{i}_jpg.rf.{copy * 32}"
            put(tmp_path, f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    together = names_of(read(tmp_path))
    parted = names_of(read_voc(tmp_path, split_seed=0, group_by="none"))
    homes = [{name[0] for name in names} for names in together.values()]
    assert sum(map(len, homes)) == 6
    assert sum(len({name[0] for name in names}) for names in parted.values()) > 6
