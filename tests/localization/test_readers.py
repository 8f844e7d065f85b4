from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import OxfordIIITPet

from localization import readers
from localization.readers import (
    fetch_pets,
    find_pets,
    read_csv,
    read_pets,
    read_voc_boxes,
)
from localization.samples import Listing, Sample
from phasewise.data.splits import hashed_split
from phasewise.errors import UserError
from tests.localization.listings import HEIGHT, WIDTH, everything, put
from tests.phasewise.data.folders import names_of, problems_of, warnings_of
from tests.voc_folder import BOX, SIZE, VocFolder

HEADER = "file,xmin,ymin,xmax,ymax"


# PASCAL VOC


def thing(name: str, *edges: float) -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    """Without masks, as localization has it."""
    folder = VocFolder(tmp_path / "voc")
    for mask in (folder.root / "SegmentationClass").iterdir():
        mask.unlink()
    return folder


def test_voc_boxes_become_continuous_and_masks_are_not_missed(voc: VocFolder) -> None:
    found = read_voc_boxes(voc.root, pick="only", split_seed=0)
    assert names_of(found) == {
        "train": [f"train-{i}" for i in range(4)], "val": ["val-0", "val-1"], "test": []
    }  # fmt: skip
    assert (found.class_names, found.problems, found.warnings) == (
        ["background", "cat", "dog"],
        [],
        [],
    )
    x1, y1, x2, y2 = BOX
    expected = Sample("val-1", voc.image("val-1"), (x1 - 1, y1 - 1, x2, y2), SIZE, "dog")
    assert found.samples["val"][1] == expected


def test_voc_largest_and_only(voc: VocFolder) -> None:
    voc.write_xml(
        "train-0", thing("cat", 1, 1, 9, 9) + thing("dog", 5, 5, 20, 15) + thing("cat", 2, 2, 3, 3)
    )
    found = read_voc_boxes(voc.root, pick="largest", split_seed=0)
    assert everything(found)["train-0"].box == (4, 4, 20, 15)
    assert everything(found)["train-0"].class_name == "dog"
    assert not found.problems
    found = read_voc_boxes(voc.root, pick="only", split_seed=0)
    reason = "3 objects; data.object=largest takes the largest"
    assert problems_of(found) == {"JPEGImages/train-0.jpg": reason}
    assert "train-0" not in everything(found)


def test_voc_bad_samples_are_all_told(voc: VocFolder) -> None:
    voc.write_xml("train-0", "")
    voc.annotate("train-1", xmax=99)
    voc.xml("train-2").unlink()
    voc.image("val-0").write_bytes(b"")
    for pick in ("largest", "only"):
        found = read_voc_boxes(voc.root, pick=pick, split_seed=0)
        told = problems_of(found)
        note = "images: 1 of 3 have no object: not used (JPEGImages/train-0.jpg)"
        assert warnings_of(found) == [note]
        assert "outside the image" in told["Annotations/train-1.xml"]
        assert told["JPEGImages/train-2.jpg"] == "has no annotation"
        assert told["JPEGImages/val-0.jpg"] == "the file is empty"
        assert names_of(found) == {"train": ["train-3"], "val": ["val-1"], "test": []}


def test_voc_warnings_that_matter_stay(voc: VocFolder) -> None:
    voc.list("val", ["val-0", "val-1", "train-0"])
    found = read_voc_boxes(voc.root, pick="only", split_seed=0)
    assert warnings_of(found) == ["train-0: is in train and val"]
    assert "train-0" in names_of(found)["train"] and "train-0" in names_of(found)["val"]


def test_real_pet_heads(shared_data: Path) -> None:
    found = read_voc_boxes(shared_data / "pets_heads", pick="only", split_seed=0)
    assert {split: len(part) for split, part in found.samples.items()} == {
        "train": 296, "val": 74, "test": 0
    }  # fmt: skip
    assert (found.problems, found.warnings) == ([], [])
    sample = everything(found)["Abyssinian_101"]
    assert (sample.box, sample.size, sample.class_name) == ((53, 35, 319, 235), (450, 313), "cat")


# CSV


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Writes a CSV and reads it; ``pets/0.jpg`` to ``pets/9.jpg`` are there."""
    for i in range(10):
        put(tmp_path / "pets" / f"{i}.jpg")

    def read(text: str, encoding: str = "utf-8", seed: int = 0) -> Listing:
        (tmp_path / "boxes.csv").write_bytes(text.encode(encoding))
        return read_csv(tmp_path, file="boxes.csv", split_seed=seed)

    return read


def rows(count: int = 10, cells: str = "1,2,30,20") -> str:
    return "".join(f"pets/{i}.jpg,{cells}\n" for i in range(count))


def test_csv_boxes_are_taken_as_they_are(table: Any, tmp_path: Path) -> None:
    found = table(f"{HEADER}\npets/3.jpg,1.5,0,{WIDTH},{HEIGHT}\n")
    (note,) = warnings_of(found)
    assert note == (
        "boxes.csv: 9 of 10 images: not in the annotations, not used "
        "(pets/0.jpg, pets/1.jpg, pets/2.jpg, ...)"
    )
    assert found.samples["train"] == [
        Sample(
            "pets/3.jpg",
            tmp_path / "pets/3.jpg",
            (1.5, 0, WIDTH, HEIGHT),
            (WIDTH, HEIGHT),
            "object",
        )
    ]
    assert (found.class_names, found.problems) == (["background", "object"], [])


def test_csv_without_split_is_split_by_hash(table: Any) -> None:
    found = table(f"{HEADER}\n{rows()}", seed=5)
    assert names_of(found) == hashed_split([f"pets/{i}.jpg" for i in range(10)], 5)
    assert names_of(found) != names_of(table(f"{HEADER}\n{rows()}", seed=6))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text",
    [
        "Split,YMAX,ymin,XMax,xmin,FILE,note,Class\nTrain,20,2,30,1,pets/0.jpg,,cat\nval,20,2,30,1,pets/1.jpg,x,dog\n",
        "file;xmin;ymin;xmax;ymax;split;class\npets\\0.jpg;1,0;2;30,0;20;train;cat\n./pets/1.jpg;1;2;30;20;VAL;dog",
        'file, xmin, ymin, xmax, ymax, split, class\n\n"pets/0.jpg", 1, "2", 30, 20, train, cat\n'
        ",,,,,,\n pets/1.jpg ,1,2,30,20,val,dog,,\n",
    ],
)
def test_csv_dialects(table: Any, text: str, encoding: str, end: str) -> None:
    found = table(text.replace("\n", end), encoding)
    assert (found.problems, found.class_names) == ([], ["background", "cat", "dog"])
    assert names_of(found) == {"train": ["pets/0.jpg"], "val": ["pets/1.jpg"], "test": []}
    assert {sample.box for sample in everything(found).values()} == {(1, 2, 30, 20)}


def test_csv_quotes_and_names_in_nfd(table: Any, tmp_path: Path) -> None:
    put(tmp_path / "a, b.jpg")
    put(tmp_path / "u\u0308.jpg")
    found = table(f'{HEADER}\n"a, b.jpg",1,2,30,20\n\u00fc.jpg,1,2,30,20\n')
    assert set(everything(found)) == {"a, b.jpg", "\u00fc.jpg"}


def test_csv_without_val_rows_takes_some_of_train(table: Any) -> None:
    cells = [f"pets/{i}.jpg,1,2,30,20,{'test' if i > 7 else 'train'}" for i in range(10)]
    found = table(f"{HEADER},split\n" + "\n".join(cells))
    counts = {split: len(part) for split, part in found.samples.items()}
    assert counts == {"train": 7, "val": 1, "test": 2}


def test_csv_every_bad_row_is_told(table: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    bad = {
        "pets/1.jpg": ("1,2,nan,20,train", "xmax is not finite"),
        "pets/2.jpg": ("1,2,inf,20,train", "xmax is not finite"),
        "pets/3.jpg": ("30,2,30,20,train", "xmax=30 <= xmin=30"),
        "pets/4.jpg": ("1,2,30,32,train", "y 2..32 lies outside the image 0..30"),
        "pets/5.jpg": ("-1.5,2,30,20,train", "x -1.5..30 lies outside the image 0..40"),
        "pets/6.jpg": ("1,2,30,2O,train", "ymax='2O' is not a number"),
        "pets/7.jpg": ("1,2,30,20,dev", "split 'dev' is none of train, val, test"),
        "pets/8.jpg": ("1,2,,20,train", "no xmax"),
        "nowhere.jpg": ("1,2,30,20,train", "no such file in data.root"),
        "../pets/0.jpg": ("1,2,30,20,train", "leads out of data.root by '..'"),
        "broken.jpg": ("1,2,30,20,train", "not an image"),
    }
    text = "".join(f"{file},{cells}\n" for file, (cells, _) in bad.items())
    text += "pets/0.jpg,1,2,30,20,train\npets/0.jpg,1,2,30,20,val\n"
    text += "pets/9.jpg,-1,0,41,30,train\n,1,2,3,4,train\npets/0.jpg,1,5,2,5,30,5,20,5\n"
    found = table(f"{HEADER},split\n{text}")
    told = problems_of(found)
    for file, (_, reason) in bad.items():
        assert told.pop(file).startswith(reason), file
    assert told == {
        "pets/0.jpg": "its 2 rows are of different splits: train, val",
        "boxes.csv, line 16": "no file",
        "boxes.csv, line 17": "more cells than the header",
    }
    assert list(everything(found)) == ["pets/9.jpg"]
    assert everything(found)["pets/9.jpg"].box == (0, 0, 40, 30)  # a pixel beyond is clipped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"name,x,y,xmax,ymax\n",
            r"boxes.csv lacks file, xmin, ymin. Its columns: name, x, y, xmax",
        ),
        (b"file,File,xmin,ymin,xmax,ymax\n", "has file twice"),
        (b"", "lacks file"),
        (b"file,xmin,ymin,xmax,ymax\nb\xe4r.jpg,1,2,3,4\n", "not text in UTF-8"),
        (b'file,xmin,ymin,xmax,ymax\n"a.jpg,1,2,3,4\n', "line 2: not a table"),
    ],
)
def test_csv_that_is_no_table(tmp_path: Path, content: Any, reason: str) -> None:
    (tmp_path / "boxes.csv").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_csv(tmp_path, file="boxes.csv", split_seed=0)


def test_csv_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    with pytest.raises(UserError, match=r"No such file.*CSV files.*: labels.csv"):
        read_csv(tmp_path, file="boxes.csv", split_seed=0)
    with pytest.raises(UserError, match="does not exist; it must be a folder"):
        read_csv(tmp_path / "no", file="boxes.csv", split_seed=0)


# Oxford-IIIT pets


def unpacked(home: Path, count: int = 10) -> None:
    """The archives' layout: images, and XML for most of them."""
    (home / "annotations/xmls").mkdir(parents=True)
    for i in range(count + 2):
        put(home / "images" / f"Pug_{i}.jpg")
    for i in range(count):
        text = f"<annotation>{thing('cat' if i % 2 else 'dog', 3, 5, 20, 30)}</annotation>"
        (home / "annotations/xmls" / f"Pug_{i}.xml").write_text(text)
    (home / "annotations/xmls/._Pug_0.xml").write_bytes(b"\0")
    (home / "images/Pug_0.mat").write_bytes(b"\0")


@pytest.mark.parametrize("folder", [".", "oxford-iiit-pet"])
def test_pets_as_unpacked(tmp_path: Path, folder: str) -> None:
    unpacked(tmp_path / folder)
    found = read_pets(tmp_path, split_seed=1)
    assert names_of(found) == hashed_split([f"Pug_{i}" for i in range(10)], 1)
    assert found.class_names == ["background", "cat", "dog"]
    sample = everything(found)["Pug_3"]
    assert sample.image == tmp_path / folder / "images/Pug_3.jpg"
    assert (sample.box, sample.class_name) == ((2, 4, 20, 30), "cat")
    assert not found.problems
    assert warnings_of(found) == [
        "images: 2 of 12 images have no box in annotations/xmls: not used"
    ]


def test_pets_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    unpacked(tmp_path)
    (tmp_path / "images/Pug_1.jpg").unlink()
    (tmp_path / "images/Pug_2.jpg").write_bytes(b"no image")
    (tmp_path / "annotations/xmls/Pug_3.xml").write_text("<annotation/>")
    (tmp_path / "annotations/xmls/Pug_4.xml").write_text("<annotation>")
    found = read_pets(tmp_path, split_seed=0)
    told = problems_of(found)
    assert told.pop("annotations/xmls/Pug_4.xml").startswith("not XML")
    assert told.pop("images/Pug_2.jpg").startswith("not an image")
    assert told == {
        "annotations/xmls/Pug_1.xml": "no image in images is called so",
    }
    assert "images: 1 of 7 have no object: not used (images/Pug_3.jpg)" in warnings_of(found)
    assert len(everything(found)) == 6


def test_pets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no Oxford pets.*data.download=true"):
        read_pets(tmp_path, split_seed=0)


def test_pets_are_fetched_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives' own code decides where they go; only the network is replaced."""

    def arrive(url: str, download_root: str, **_: Any) -> None:
        home = Path(download_root)
        if "images" in url:
            unpacked(home)
            for part in ("trainval", "test"):
                (home / f"annotations/{part}.txt").write_text("Pug_0 1 2 1\n")

    monkeypatch.setattr("torchvision.datasets.oxford_iiit_pet.download_and_extract_archive", arrive)
    assert find_pets(tmp_path) is None
    fetch_pets(tmp_path)
    assert find_pets(tmp_path) == tmp_path / "oxford-iiit-pet"
    assert len(OxfordIIITPet(tmp_path)) == 1
    assert len(everything(read_pets(tmp_path, split_seed=0))) == 10


def test_without_internet_a_person_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(readers, "OxfordIIITPet", fail)
    with pytest.raises(UserError, match=r"no route to host.*Without internet"):
        fetch_pets(tmp_path)
