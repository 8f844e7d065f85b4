from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasewise.data.annotated import Annotations
from phasewise.data.yolo import read_yolo
from phasewise.errors import UserError
from tests.phasewise.data.folders import problems_of, warnings_of

WIDTH, HEIGHT = 40, 20
LINE = "1 0.5 0.25 0.5 0.3\n"
BOX = (10, 2, 30, 8)


def put(path: Path, text: str | None = LINE, labels: Path | None = None) -> None:
    """An image, and its text file: across from it, or where ``labels`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    if text is not None:
        across = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        labels = labels or across
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)


def names(found: Annotations) -> dict[str, list[str]]:
    return {split: list(listed) for split, listed in found.lists.items()}


def yaml(root: Path, text: str) -> None:
    (root / "data.yaml").write_text(text)


@pytest.mark.parametrize(
    ("text", "train", "val"),
    [
        ("train: images/train\nval: images/val\nnames: [cat, dog]", "images/train", "images/val"),
        # Roboflow's, which lead out of the folder
        (
            "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\n"
            "names: ['cat', 'dog']",
            "train/images",
            "valid/images",
        ),
        # written on another computer
        (
            "path: /content/pets\ntrain: images/train\nval: /content/pets/images/val\n"
            "names:\n  0: cat\n  1: dog",
            "images/train",
            "images/val",
        ),
        (
            "path: ../pets\ntrain: images/a\nval: [images/b]\nnames: [cat, dog]",
            "images/a",
            "images/b",
        ),
    ],
)
def test_a_yaml_tells_splits_and_classes(tmp_path: Path, text: str, train: str, val: str) -> None:
    for i in range(3):
        put(tmp_path / train / f"{i}.jpg")
    put(tmp_path / val / "9.jpg")
    yaml(tmp_path, text)
    found = read_yolo(tmp_path)
    assert not found.problems
    assert names(found) == {
        "train": [f"{train}/{i}.jpg" for i in range(3)],
        "val": [f"{val}/9.jpg"],
    }
    assert found.class_names == ["cat", "dog"]
    (thing,) = found.images[f"{val}/9.jpg"].objects
    assert thing.class_name == "dog"
    assert thing.box == pytest.approx(BOX)


def test_lists_of_images_as_darknet_has_them(tmp_path: Path) -> None:
    for name in "abc":
        put(
            tmp_path / "obj_train_data" / f"{name}.jpg",
            labels=tmp_path / f"obj_train_data/{name}.txt",
        )
    (tmp_path / "train.txt").write_text(
        "data/obj_train_data/a.jpg\r\ndata/obj_train_data/b.jpg\r\n"
    )
    (tmp_path / "val.txt").write_text("./obj_train_data/c.jpg\n/export/obj_train_data/gone.jpg\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    yaml(tmp_path, "train: train.txt\nval: val.txt\nnames: [cat, dog]")
    found = read_yolo(tmp_path)
    assert names(found) == {
        "train": ["obj_train_data/a.jpg", "obj_train_data/b.jpg"], "val": ["obj_train_data/c.jpg"]
    }  # fmt: skip
    assert problems_of(found) == {"/export/obj_train_data/gone.jpg": "no such file in data.root"}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train/images", "valid/images", "test/images"], ["train", "val", "test"]),
        (["images/train", "images/val"], ["train", "val"]),
        (["images"], ["all"]),
    ],
)
def test_folders_tell_splits_without_a_yaml(tmp_path: Path, folders: Any, expected: Any) -> None:
    for folder in folders:
        put(tmp_path / folder / "a.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = read_yolo(tmp_path)
    assert names(found) == {
        split: [f"{folder}/a.jpg"] for split, folder in zip(expected, folders, strict=True)
    }
    assert (found.class_names, found.problems, found.warnings) == (["cat", "dog"], [], [])


def test_text_files_beside_their_images_as_labelimg_leaves_them(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / f"{name}.jpg", labels=tmp_path / f"{name}.txt")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = read_yolo(tmp_path)
    assert names(found) == {"all": ["a.jpg", "b.jpg"]}
    assert found.images["a.jpg"].objects[0].class_name == "dog"


def test_what_lines_mean(tmp_path: Path) -> None:
    yaml(tmp_path, "train: images\nval: images\nnames: [cat, dog]")
    put(tmp_path / "images/box.jpg", f"\ufeff{LINE}\n0 .5 .5 1 1\n")
    put(tmp_path / "images/polygon.jpg", "0 .25 .5 .75 .5 .5 1\n")
    put(tmp_path / "images/none.jpg", None)
    put(tmp_path / "images/empty.jpg", "\n")
    put(tmp_path / "images/rounded.jpg", "0 .5 .5 1.01 1\n")  # a fifth of a pixel beyond
    found = read_yolo(tmp_path)
    assert not found.problems
    objects = {name.split("/")[1]: image.objects for name, image in found.images.items()}
    assert objects["none.jpg"] == objects["empty.jpg"] == ()
    assert [it.box for it in objects["box.jpg"]] == [pytest.approx(BOX), (0, 0, WIDTH, HEIGHT)]
    (polygon,) = objects["polygon.jpg"]
    assert polygon.box == (10, 10, 30, 20)
    assert polygon.outline == [[10, 10, 30, 10, 20, 20]]
    assert objects["rounded.jpg"][0].box == (0, 0, WIDTH, HEIGHT)


def test_key_points_behind_a_box_are_no_polygon(tmp_path: Path) -> None:
    put(tmp_path / "images/a.jpg", "0 .5 .25 .5 .3 .1 .1 2 .9 .9 1\n")
    yaml(tmp_path, "train: images\nkpt_shape: [2, 3]\nnames: [cat]")
    assert read_yolo(tmp_path).images["images/a.jpg"].objects[0].box == pytest.approx(BOX)


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    bad = {
        "class.jpg": ("7 .5 .5 .1 .1", "class 7; data.yaml names 2 classes"),
        "name.jpg": ("dog .5 .5 .1 .1", "a number of the line='dog' is not a number"),
        "half.jpg": ("0.5 .5 .5 .1 .1", "the class '0.5' is no number from 0"),
        "pixels.jpg": ("0 10 10 5 5", "not fractions of width and height"),
        "short.jpg": ("0 .5 .5 .1", "4 numbers; needed: class, centre"),
        "score.jpg": ("0 .5 .5 .1 .1 .9", "6 numbers; needed: class, centre"),
        "flat.jpg": ("0 .5 .5 0 .1", "xmax=20 <= xmin=20"),
        "nan.jpg": ("0 .5 nan .1 .1", "a number of the line is not finite"),
    }
    yaml(tmp_path, "train: images\nval: images\nnames: [cat, dog]")
    for name, (line, _) in bad.items():
        put(tmp_path / "images" / name, f"{LINE}{line}\n")
    put(tmp_path / "images/good.jpg")
    (tmp_path / "images/broken.jpg").write_bytes(b"")
    found = read_yolo(tmp_path)
    told = problems_of(found)
    for name, (_, reason) in bad.items():
        assert told.pop(f"labels/{name[:-4]}.txt, line 2").startswith(reason), name
    assert told == {"images/broken.jpg": "the file is empty"}
    assert list(found.images) == ["images/good.jpg"]


def test_classes_without_names_are_called_by_number(tmp_path: Path) -> None:
    put(tmp_path / "images/a.jpg")
    found = read_yolo(tmp_path)
    assert found.class_names == ["1"]
    assert "called by number" in warnings_of(found)[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train: [", "data.yaml cannot be read"),
        ("- a", "names, train and val are needed"),
        ("train: images\nnames: cat", "names must be a list"),
        ("train: imgs\nnames: [cat]", "train: imgs is not in data.root"),
    ],
)
def test_a_yaml_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    put(tmp_path / "images/a.jpg")
    yaml(tmp_path, text)
    with pytest.raises(UserError, match=reason):
        read_yolo(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image was found"):
        read_yolo(tmp_path)
    with pytest.raises(UserError, match=r"my\.yaml: no such file"):
        read_yolo(tmp_path, file="my.yaml")
    put(tmp_path / "images/a.jpg", None)
    with pytest.raises(UserError, match=r"1 images, and none has a text file.*labels/a\.txt"):
        read_yolo(tmp_path)
