from __future__ import annotations

import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasewise.errors import UserError
from reid.readers import read_folder, read_market, read_veri
from reid.splits import Listing, Sample, valid_queries


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8)).save(path)


VERI = {
    "image_train": ["0002_c002_00030600_0.jpg", "0002_c003_1_0.jpg", "0010_c001_2_0.jpg"],
    "image_query": ["0001_c001_3_0.jpg", "0003_c020_4_0.jpg"],
    "image_test": [
        "0001_c001_3_0.jpg",
        "0001_c002_5_0.jpg",
        "0003_c020_4_0.jpg",
        "0003_c019_6_0.jpg",
    ],
}
MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0007_c6s3_1_01.jpg"],
    "query": ["0001_c1s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c2s1_000401_01.jpg",
        "0000_c3s2_1_01.jpg",
        "0001_c2s1_2_01.jpg",
    ],
}


def fill(root: Path, content: dict[str, list[str]]) -> Path:
    for folder, names in content.items():
        for name in names:
            put(root / folder / name)
    return root


@pytest.fixture
def veri(tmp_path: Path) -> Path:
    return fill(tmp_path / "0777_c7 set", VERI)  # numbers in the path are no identities


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return fill(tmp_path / "0777_c7s7_x", MARKET)


def numbers(samples: list[Sample]) -> list[tuple[int, int | None]]:
    return [(sample.identity, sample.camera) for sample in samples]


def told(listing: Listing, what: str = "problems") -> dict[str, str]:
    found = getattr(listing, what)
    assert len({problem.file for problem in found}) == len(found)
    return {problem.file: problem.reason for problem in found}


def refusal(read: Any, root: Path, **settings: int) -> str:
    with pytest.raises(UserError) as caught:
        read(root, **settings)
    return str(caught.value)


# VeRi and Market


def test_veri_names_give_identity_and_camera(veri: Path) -> None:
    listing = read_veri(veri)
    assert numbers(listing.train) == [(2, 2), (2, 3), (10, 1)]
    assert numbers(listing.query) == [(1, 1), (3, 20)]
    assert numbers(listing.gallery) == [(1, 1), (1, 2), (3, 19), (3, 20)]
    assert listing.train[0].name == "image_train/0002_c002_00030600_0.jpg"
    assert listing.train[0].path == veri / "image_train" / "0002_c002_00030600_0.jpg"
    assert not listing.problems
    assert not listing.warnings


@pytest.mark.parametrize(("read", "home"), [(read_veri, "VeRi"), (read_market, "market1501")])
def test_the_folder_above_will_do(tmp_path: Path, read: Any, home: str) -> None:
    fill(tmp_path / home, VERI if read is read_veri else MARKET)
    listing = read(tmp_path)
    assert listing.train[0].name.startswith(f"{home}/")
    assert len(listing.train) == (3 if read is read_veri else 2)
    assert not listing.problems


def test_market_keeps_junk_and_distractors_in_the_gallery_alone(market: Path) -> None:
    fill(market, {"bounding_box_train": ["-1_c1s1_1_01.jpg", "0000_c1s1_1_01.jpg"]})
    fill(market, {"query": ["-1_c1s1_1_01.jpg"]})
    listing = read_market(market)
    assert numbers(listing.train) == [(2, 1), (7, 6)]
    assert numbers(listing.query) == [(1, 1)]
    assert numbers(listing.gallery) == [(-1, 2), (0, 3), (1, 2)]
    assert told(listing, "warnings") == {
        "bounding_box_train": "2 images (-1_c1s1_1_01.jpg, 0000_c1s1_1_01.jpg) are of identity "
        "-1 or 0: not used",
        "query": "1 image (-1_c1s1_1_01.jpg) is of identity -1 or 0: not used",
    }


def test_in_veri_zero_is_an_identity_and_minus_one_a_mistake(veri: Path) -> None:
    fill(veri, {"image_train": ["0000_c001_1_0.jpg", "-1_c001_1_0.jpg"]})
    listing = read_veri(veri)
    assert numbers(listing.train)[0] == (0, 1)
    assert told(listing).keys() == {"image_train/-1_c001_1_0.jpg"}


def test_everything_bad_is_collected(veri: Path) -> None:
    train, test = veri / "image_train", veri / "image_test"
    for name in ("car.jpg", "0002_x_1.jpg", "c002_0002_1.jpg", "0002_c12345678901_1.jpg"):
        put(train / name)
    put(test / "٣_c001_1_0.jpg")
    (train / "0010_c001_2_0.jpg").write_text("no image")
    whole = (test / "0003_c019_6_0.jpg").read_bytes()
    (test / "0003_c019_6_0.jpg").write_bytes(whole[:30])
    (test / "0003_c020_4_0.jpg").write_bytes(b"")
    listing = read_veri(veri)
    expected = "no identity and camera in its name, expected 0002_c002_00030600_0.jpg"
    problems = told(listing)
    for name in ("car.jpg", "0002_x_1.jpg", "c002_0002_1.jpg", "0002_c12345678901_1.jpg"):
        assert problems.pop(f"image_train/{name}") == expected
    assert problems.pop("image_test/٣_c001_1_0.jpg") == expected
    assert problems.pop("image_train/0010_c001_2_0.jpg").startswith("not an image")
    assert problems.pop("image_test/0003_c019_6_0.jpg").startswith(("cannot be", "not an image"))
    assert problems.pop("image_test/0003_c020_4_0.jpg") == "the file is empty"
    assert not problems
    assert numbers(listing.train) == [(2, 2), (2, 3)]
    assert numbers(listing.gallery) == [(1, 1), (1, 2)]


def test_an_empty_folder_is_a_problem_among_others(veri: Path) -> None:
    shutil.rmtree(veri / "image_query")
    (veri / "image_query").mkdir()
    put(veri / "image_train" / "car.jpg")
    listing = read_veri(veri)
    assert told(listing).keys() == {"image_query", "image_train/car.jpg"}
    assert told(listing)["image_query"].startswith("holds no image (.jpg, ")


def test_any_suffix_and_what_is_no_image(veri: Path) -> None:
    train = veri / "image_train"
    put(train / "0005_C001_1_0.PNG")
    put(train / "._0006_c001_1_0.jpg")
    (train / "Thumbs.db").write_text("")
    (train / "0006_c001_1_0.txt").write_text("")
    listing = read_veri(veri)
    assert (5, 1) in numbers(listing.train)
    assert len(listing.train) == 4
    assert not listing.problems
    assert not listing.warnings


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS normalises names itself")
def test_names_are_compared_in_nfc(veri: Path) -> None:
    apart = unicodedata.normalize("NFD", "0005_c001_ü.jpg")
    put(veri / "image_train" / apart)
    (veri / "name_train.txt").write_text("0005_c001_ü.jpg\n", encoding="utf-8")
    listing = read_veri(veri)
    assert [sample.name for sample in listing.train] == ["image_train/0005_c001_ü.jpg"]
    assert not listing.problems
    put(veri / "image_train" / "0005_c001_ü.jpg")
    listing = read_veri(veri)
    assert len(listing.train) == 1
    ignored = [p.reason for p in listing.warnings if "NFC" in p.reason]
    assert ignored == ["ignored: another file has the same name in NFC"]


def test_lists_say_which_images_are_used(veri: Path) -> None:
    text = "0002_c002_00030600_0.jpg\r\n\r\n0002_c003_1_0.jpg\r\n0002_c003_1_0.jpg\r\n"
    (veri / "name_train.txt").write_bytes(text.encode("utf-8-sig"))
    (veri / "name_test.txt").write_text("\n".join(VERI["image_test"]))
    listing = read_veri(veri)
    assert numbers(listing.train) == [(2, 2), (2, 3)]
    assert len(listing.query) == 2
    assert len(listing.gallery) == 4
    assert not listing.problems
    assert told(listing, "warnings") == {
        "name_train.txt": "lists '0002_c003_1_0.jpg' more than once",
        "image_train": "1 image (0010_c001_2_0.jpg) is not in name_train.txt: not used",
    }


def test_listed_but_missing_is_a_problem(veri: Path) -> None:
    names = ["0002_c002_00030600_0.jpg", "0009_c001_1_0.jpg", "../x.jpg", "/etc/0002_c001_1.jpg"]
    (veri / "name_train.txt").write_text("\n".join(names))
    listing = read_veri(veri)
    assert numbers(listing.train) == [(2, 2)]
    assert told(listing) == {
        "image_train/0009_c001_1_0.jpg": "listed in name_train.txt, but there is no such image",
        "../x.jpg": "leads out of data.root by '..' (listed in name_train.txt)",
        "/etc/0002_c001_1.jpg": "an absolute path; it must be relative to data.root "
        "(listed in name_train.txt)",
    }


def test_identities_in_train_and_test_are_told(veri: Path) -> None:
    fill(veri, {"image_train": ["0001_c005_1_0.jpg", "0003_c005_1_0.jpg"]})
    assert told(read_veri(veri), "warnings") == {
        "image_train": "2 identities (1, 3) are also in image_query or image_test: the test is "
        "known"
    }


def test_queries_with_nothing_to_find_are_told(veri: Path) -> None:
    fill(veri, {"image_query": ["0004_c001_1_0.jpg"]})
    (veri / "image_test" / "0001_c002_5_0.jpg").unlink()
    listing = read_veri(veri)
    assert len(listing.query) == 3
    assert told(listing, "warnings") == {
        "image_query/0001_c001_3_0.jpg": "identity 1 is not in image_test by another camera: "
        "this query counts for nothing",
        "image_query/0004_c001_1_0.jpg": "identity 4 is not in image_test: "
        "this query counts for nothing",
    }


@pytest.mark.parametrize("read", [read_veri, read_market])
def test_another_layout_is_refused_with_what_is_there(tmp_path: Path, read: Any) -> None:
    fill(tmp_path / "deep" / "down", VERI if read is read_veri else MARKET)
    put(tmp_path / "image_train" / "0001_c001_1.jpg")
    lines = refusal(read, tmp_path).splitlines()
    assert lines[0].startswith(f"data.root={tmp_path} has no ")
    assert "image_train" not in lines[0]
    assert lines[1].endswith("Folders there: deep, image_train.")
    assert lines[2] == f"That layout is in data.root={tmp_path / 'deep' / 'down'}"


def test_the_other_published_layout_is_recognised(veri: Path, market: Path) -> None:
    hint = "data.root is in Market-1501 layout: data=market"
    assert refusal(read_veri, market).splitlines()[-1] == hint
    assert refusal(read_market, veri).endswith("data.root is in VeRi-776 layout: data=veri")
    assert refusal(read_folder, veri, split_seed=0).endswith("VeRi-776 layout: data=veri")


@pytest.mark.parametrize("read", [read_veri, read_market, lambda r: read_folder(r, split_seed=0)])
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, read: Any) -> None:
    assert "does not exist" in refusal(read, tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(read, tmp_path / "file")


def test_the_real_set(shared_data: Path) -> None:
    listing = read_veri(shared_data / "vehicle_reid_dev")
    assert [len(part) for part in (listing.train, listing.query, listing.gallery)] == [
        598,
        202,
        202,
    ]
    assert len({sample.identity for sample in listing.train}) == 299
    assert {sample.camera for sample in listing.train} == {1, 2}
    assert not listing.problems
    assert not listing.warnings
    assert len(valid_queries(listing.query, listing.gallery)) == 202


# Folders named by identity


def test_folders_in_three_parts(tmp_path: Path) -> None:
    for part, images in {
        "train": ["1/x_c1_0.jpg", "1/x_c2_0.jpg", "002/y_c1s3_0.jpg"],
        "query": ["3/z_c4.jpg"],
        "gallery": ["3/z_c5.jpg", "12/a_c5.jpg"],
    }.items():
        for image in images:
            put(tmp_path / part / image)
    listing = read_folder(tmp_path, split_seed=0)
    assert numbers(listing.train) == [(2, 1), (1, 1), (1, 2)]
    assert numbers(listing.query) == [(3, 4)]
    assert numbers(listing.gallery) == [(12, 5), (3, 5)]
    assert listing.train[0].name == "train/002/y_c1s3_0.jpg"
    assert listing.identity_names == {2: "002"}
    assert not listing.problems
    assert not listing.warnings


def test_names_become_numbers_in_sorted_order(tmp_path: Path) -> None:
    for folder in ("train/red car", "train/Österreich 1", "query/bus", "gallery/bus"):
        put(tmp_path / folder / "a.jpg")
        put(tmp_path / folder / "b.jpg")
    listing = read_folder(tmp_path, split_seed=0)
    assert listing.identity_names == {0: "bus", 1: "red car", 2: "Österreich 1"}
    assert numbers(listing.query) == [(0, None)] * 2
    assert {sample.identity for sample in listing.train} == {1, 2}
    # "1" and "01" are two identities, and both the number 1.
    for folder in ("train/1", "train/01"):
        put(tmp_path / folder / "a.jpg")
    listing = read_folder(tmp_path, split_seed=0)
    assert len({one.identity for one in listing.train}) == 4
    assert [listing.identity_names.get(i, str(i)) for i in range(5)] == [
        "01",
        "1",
        "bus",
        "red car",
        "Österreich 1",
    ]


def flat(root: Path, identities: int, images: list[str]) -> Path:
    for identity in range(identities):
        for image in images:
            put(root / f"v{identity:02d}" / image)
    return root


def test_one_folder_is_split_by_identity(tmp_path: Path) -> None:
    root = flat(tmp_path, 20, ["a_c1.jpg", "b_c1.jpg", "c_c2.jpg"])
    listing = read_folder(root, split_seed=0)
    train = {sample.identity for sample in listing.train}
    test = {sample.identity for sample in listing.gallery}
    assert (len(train), len(test)) == (14, 6)
    assert not train & test
    assert len(listing.gallery) == 6 * 3
    assert len(listing.query) == 6 * 2  # the first image of each camera
    assert {sample.path.name for sample in listing.query} == {"a_c1.jpg", "c_c2.jpg"}
    assert read_folder(root, split_seed=0) == listing
    others = [read_folder(root, split_seed=seed).gallery for seed in range(1, 4)]
    assert any(other != listing.gallery for other in others)


def test_without_cameras_the_query_leaves_the_gallery(tmp_path: Path) -> None:
    listing = read_folder(flat(tmp_path, 10, ["a.jpg", "b.jpg", "c.jpg"]), split_seed=0)
    assert {sample.camera for sample in (*listing.train, *listing.gallery)} == {None}
    assert [sample.path.name for sample in listing.query] == ["a.jpg"] * 3
    assert [sample.path.name for sample in listing.gallery] == ["b.jpg", "c.jpg"] * 3
    assert len(valid_queries(listing.query, listing.gallery)) == 3


def test_cameras_count_only_if_every_name_has_one(tmp_path: Path) -> None:
    root = flat(tmp_path, 4, ["x_c1_1.jpg", "x_c2_1.jpg"])
    put(root / "v00" / "abc1.jpg")
    listing = read_folder(root, split_seed=0)
    assert {sample.camera for sample in (*listing.train, *listing.gallery)} == {None}
    assert told(listing, "warnings") == {
        "cameras": "1 name (abc1.jpg) is without a camera (as in _c3): none is used"
    }


def test_folders_that_help_nobody_are_told(tmp_path: Path) -> None:
    root = flat(tmp_path, 4, ["a.jpg", "b.jpg"])
    put(root / "loose.jpg")
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    (root / "v00" / "a.jpg").write_text("no image")
    listing = read_folder(root, split_seed=0)
    assert told(listing).keys() == {"v00/a.jpg"}
    warnings = told(listing, "warnings")
    assert warnings.pop("empty") == "ignored: holds no image"
    assert warnings.pop("data.root").startswith("1 image (loose.jpg) is in no identity's folder")
    assert all("counts for nothing" in reason for reason in warnings.values())


def test_a_part_without_folders_is_a_problem(tmp_path: Path) -> None:
    for part in ("train", "query", "gallery"):
        put(tmp_path / part / "1" / "a.jpg")
    shutil.rmtree(tmp_path / "query" / "1")
    assert told(read_folder(tmp_path, split_seed=0)) == {"query": "holds no folder with images"}


def test_a_part_that_is_missing_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "train" / "1" / "a.jpg")
    message = refusal(read_folder, tmp_path, split_seed=0)
    assert message.startswith(f"data.root={tmp_path} has train, but no query and no gallery; ")


def test_folders_deeper_down_are_named(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "cars" / "7" / "a.jpg")
    lines = refusal(read_folder, tmp_path, split_seed=0).splitlines()
    assert lines[0] == f"data.root={tmp_path} has no folder with images."
    assert lines[-1] == f"Folders with images are in data.root={tmp_path / 'photos' / 'cars'}"
    only = refusal(read_folder, tmp_path / "photos" / "cars", split_seed=0)
    assert only.endswith("holds 1 identity; two are needed")
