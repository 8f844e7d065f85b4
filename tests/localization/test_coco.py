from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localization.readers import read_coco
from phasewise.data.splits import hashed_split
from phasewise.errors import UserError
from tests.localization.listings import HEIGHT, WIDTH, everything, put
from tests.phasewise.data.folders import names_of, problems_of, warnings_of


def coco(images: dict[int, str], boxes: list[tuple[int, list[Any]]], **more: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for key, name in images.items()
        ],
        "annotations": [
            {"id": 100 + i, "image_id": key, "bbox": box, "category_id": 7, "iscrowd": 0}
            for i, (key, box) in enumerate(boxes)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    } | more


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_coco_single_file_is_split_by_hash(tmp_path: Path) -> None:
    for i in range(8):
        put(tmp_path / "images" / f"{i}.jpg")
    content = coco({i: f"{i}.jpg" for i in range(8)}, [(i, [1, 2, 20, 10.5]) for i in range(8)])
    write(tmp_path / "annotations/instances_train.json", content)
    for place in ("annotations", "annotations/instances_train.json", "*/*.json"):
        found = read_coco(tmp_path, annotations=place, pick="only", split_seed=3)
        assert (found.problems, found.warnings) == ([], [])
        assert names_of(found) == hashed_split([f"images/{i}.jpg" for i in range(8)], 3)
        assert found.class_names == ["background", "cat"]
        sample = everything(found)["images/4.jpg"]
        assert sample.image == tmp_path / "images/4.jpg"
        assert (sample.box, sample.size) == ((1, 2, 21, 12.5), (WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("annotations", "files", "folders"),
    [
        ("annotations", "annotations/instances_{}2017.json", ("train2017", "val2017")),
        (
            "annotations",
            "annotations/instances_{}2017.json",
            ("images/train2017", "images/val2017"),
        ),
        ("interval", "interval/{}.json", ("images/train", "val")),
        ("*/_annotations.coco.json", "{}/_annotations.coco.json", ("train", "val")),
        ("labels/*.json", "labels/a_{}.json", (".", ".")),
    ],
)
def test_coco_a_file_per_split(tmp_path: Path, annotations: str, files: str, folders: Any) -> None:
    for split, folder, count in zip(("train", "val"), folders, (3, 2), strict=True):
        listed = {i: f"{split}{i}.jpg" for i in range(count)}
        for name in listed.values():
            put(tmp_path / folder / name)
        write(tmp_path / files.format(split), coco(listed, [(i, [0, 0, 9, 9]) for i in listed]))
    write(tmp_path / "annotations/captions_train2017.json", {"no": "boxes"})
    found = read_coco(tmp_path, annotations=annotations, pick="only", split_seed=0)
    assert not found.problems
    assert [[s.image for s in found.samples[split]] for split in ("train", "val", "test")] == [
        [tmp_path / folders[0] / f"train{i}.jpg" for i in range(3)],
        [tmp_path / folders[1] / f"val{i}.jpg" for i in range(2)],
        [],
    ]


def test_coco_crowds_do_not_count_and_the_largest_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    content = coco({1: "a.jpg"}, [(1, [0, 0, 5, 5]), (1, [2, 2, 10, 20]), (1, [0, 0, 40, 30])])
    content["annotations"][1]["category_id"] = 9
    content["annotations"][2]["iscrowd"] = 1
    write(tmp_path / "a.json", content)
    found = read_coco(tmp_path, annotations="a.json", pick="largest", split_seed=0)
    assert everything(found)["a.jpg"].box == (2, 2, 12, 22)
    assert everything(found)["a.jpg"].class_name == "dog"
    found = read_coco(tmp_path, annotations="a.json", pick="only", split_seed=0)
    assert problems_of(found) == {"a.jpg": "2 objects; data.object=largest takes the largest"}


def test_coco_everything_bad_is_told(tmp_path: Path) -> None:
    bad = {
        "zero.jpg": ([1, 1, 0, 5], "xmax=1 <= xmin=1"),
        "nan.jpg": ([1, 1, float("nan"), 5], "width is not finite"),
        "far.jpg": ([30, 1, 20, 5], "x 30..50 lies outside the image 0..40"),
        "text.jpg": ([1, "one", 2, 5], "y='one' is not a number"),
        "short.jpg": ([1, 2, 3], "annotation 104: bbox must be"),
        "none.jpg": (None, "annotation 105: bbox must be"),
    }
    images = dict(enumerate([*bad, "good.jpg", "empty.jpg", "../out.jpg", "gone.jpg"]))
    for name in [*bad, "good.jpg", "empty.jpg", "twice.jpg", "odd.jpg", "kind.jpg"]:
        put(tmp_path / name)
    put(tmp_path / "odd.jpg", (50, 30))
    boxes: list[tuple[int, Any]] = [(i, box) for i, (box, _) in enumerate(bad.values())]
    content = coco(images, [*boxes, (6, [0, 0, 9, 9]), (8, [0, 0, 9, 9]), (77, [0, 0, 9, 9])])
    content["images"] += coco({20: "twice.jpg", 21: "twice.jpg"}, [])["images"]
    content["images"] += [*coco({22: "odd.jpg"}, [])["images"], {"id": 30}]
    content["images"] += coco({23: "kind.jpg"}, [])["images"]
    more = [{"image_id": 23, "bbox": [0, 0, 9, 9], "category_id": 8}]
    content["annotations"] += more
    write(tmp_path / "a.json", content)
    found = read_coco(tmp_path, annotations="a.json", pick="largest", split_seed=0)
    told = problems_of(found)
    for file, (_, reason) in bad.items():
        assert told.pop(file).startswith(reason), file
    assert told.pop("kind.jpg").endswith("unknown category 8")
    assert told.pop("odd.jpg") == "a.json says 40x30, the image is 50x30"
    assert told.pop("../out.jpg") == "leads out of data.root by '..'"
    assert told.pop("gone.jpg").startswith("no such file in data.root, images")
    assert told.pop("twice.jpg") == "a.json has its file_name or its id more than once"
    assert told.pop("a.json").startswith("an image lacks file_name or id")
    assert told == {"empty.jpg": "no object"}  # which leaves nothing to validate on
    assert warnings_of(found) == [
        "a.json: annotations of images that it does not list: 1",
        "images: 1 of 2 have no object: not used (empty.jpg)",
    ]
    assert list(everything(found)) == ["good.jpg"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"b/c.json": "[]"}, "a.json: no such file in data.root=.*JSON files there: b/c.json"),
        ({"a.json": "{"}, "a.json is not JSON"),
        ({"a.json": "[]"}, "a.json is not COCO's"),
        ({"a.json": '{"images": [3], "annotations": []}'}, "a.json is not COCO's"),
    ],
)
def test_coco_files_that_cannot_be_used(tmp_path: Path, files: Any, reason: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=reason):
        read_coco(tmp_path, annotations="a.json", pick="only", split_seed=0)


def test_coco_several_files_must_tell_their_split(tmp_path: Path) -> None:
    for name in ("train", "rest"):
        write(tmp_path / "a" / f"{name}.json", coco({}, []))
    with pytest.raises(
        UserError, match=r"2 files, a split each, but a/rest\.json has none of train"
    ):
        read_coco(tmp_path, annotations="a", pick="only", split_seed=0)
