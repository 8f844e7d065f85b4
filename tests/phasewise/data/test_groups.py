from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from phasewise.data.groups import find_groups, known_exports
from phasewise.data.near import near_duplicates
from phasewise.data.splits import SPLITS, hashed_split, resolve_splits
from phasewise.errors import UserError


def copies(photographs: int, each: int = 3, folder: str = "train/") -> list[str]:
    """As Roboflow names augmented copies."""
    return [
        f"{folder}photo{i}_jpg.rf.{hashlib.md5(f'{i} {j}'.encode()).hexdigest()}.jpg"
        for i in range(photographs)
        for j in range(each)
    ]


def photograph(name: str) -> str:
    return name.split("_jpg.rf.", maxsplit=1)[0].removeprefix("train/")


def as_before(names: list[str], seed: int) -> dict[str, list[str]]:
    """What `hashed_split` was before there were groups."""
    order = sorted(set(names), key=lambda it: hashlib.sha256(f"{seed}\0{it}".encode()).digest())
    count = len(order)
    val = min(max(1, int(count * 0.15 + 0.5)), max(count - 1, 0))
    test = min(int(count * 0.15 + 0.5), max(count - 1 - val, 0))
    parts = (order[val + test :], order[:val], order[val : val + test])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 10, 33, 1000])
def test_names_without_groups_are_split_as_before(count: int) -> None:
    names = [f"images/{i}.jpg" for i in range(count)]
    for seed in range(3):
        assert hashed_split(names, seed) == as_before(names, seed)
        assert resolve_splits({}, names, seed) == (as_before(names, seed), [])


@pytest.mark.parametrize("vary", [str, lambda name: name.removesuffix(".jpg")])
def test_copies_of_one_photograph_stay_together(vary: object) -> None:
    names = [vary(name) for name in copies(20)]  # type: ignore[operator]
    splits, notes = resolve_splits({}, names, 0)
    homes = {split: {photograph(name) for name in part} for split, part in splits.items()}
    assert sorted(name for part in splits.values() for name in part) == sorted(names)
    assert {split: len(part) for split, part in homes.items()} == {"train": 14, "val": 3, "test": 3}
    assert sum(map(len, homes.values())) == len(set.union(*homes.values()))
    (note,) = notes
    assert note.file == "data.group_by=auto"
    assert note.reason.startswith("60 of 60 images are in 20 groups")
    assert "the largest of 3" in note.reason
    assert resolve_splits({}, names, 1)[0] != splits
    # the same names, each on its own: copies fall apart
    alone = resolve_splits({}, names, 0, find_groups("none", names))
    assert alone == (as_before(names, 0), [])


def test_val_that_is_drawn_from_a_train_list_keeps_groups_too() -> None:
    splits, notes = resolve_splits({"train": copies(20)}, [], 0)
    homes = [{photograph(name) for name in splits[split]} for split in ("train", "val")]
    assert [len(it) for it in homes] == [17, 3]
    assert not homes[0] & homes[1]
    assert [note.file for note in notes] == ["data.group_by=auto"]


def test_lists_are_taken_as_they_are_and_what_they_part_is_told() -> None:
    names = copies(4)
    lists = {"train": names[:8], "val": names[8:]}  # photo2 is in both
    splits, notes = resolve_splits(lists, [], 0)
    assert splits == {**lists, "test": []}
    (note,) = notes
    assert note.reason.startswith("1 groups of images")
    assert "e.g. photo2_jpg, are in train and val, as listed" in note.reason
    assert resolve_splits({"train": names[:9], "val": names[9:]}, [], 0)[1] == []


def test_groups_of_all_sizes_leave_something_in_train_and_val() -> None:
    sizes = {"a": 40, "b": 35, "c": 20, "d": 5}
    groups = {f"{group}{i}": group for group, size in sizes.items() for i in range(size)}
    for seed in range(20):
        found = hashed_split(groups, seed, groups=groups)
        assert sum(map(len, found.values())) == 100
        assert found["train"] and found["val"]
        homes = [{groups[name] for name in part} for part in found.values()]
        assert sum(map(len, homes)) == 4
        assert len(found["val"]) in (5, 20, 25)  # 15 are wanted
    large = {name: group for name, group in groups.items() if group in "ab"}
    found = hashed_split(large, 0, groups=large)
    assert {split: len(part) for split, part in found.items()} == {
        "train": 40,
        "val": 35,
        "test": 0,
    }


def test_one_group_of_all_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match=r"all 3 images are of one group.*data\.group_by=none"):
        resolve_splits({}, copies(1), 0)
    assert resolve_splits({}, ["photo_jpg.rf.0123456789abcdef.jpg"], 0)[0]["train"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("a/IMG_1_png.rf.96a3be3cf272e017046d1b2674a52bd3.jpg", "IMG_1_png"),
        ("IMG.1.jpg.rf.qZ3aE7dX9bYw1LkPs0tR.jpg", "IMG.1.jpg"),
        ("pets_original_cat.jpg_1b4e28ba-2fa1-41d2-883f-0016d3cca427.jpg", "cat.jpg"),
        ("IMG_1.jpg", None),
        ("photo_original_cat.jpg", None),
        ("a.rf.1.jpg", None),
    ],
)
def test_what_tools_call_copies(name: str, group: str | None) -> None:
    assert known_exports([name]).of.get(name) == group


def test_a_regular_expression_tells_groups() -> None:
    names = ["p1/a_0.png", "p1/b_0.png", "p2/a_0.png", "x.png"]
    assert find_groups("^p[0-9]+", names).together == {"p1": ["p1/a_0.png", "p1/b_0.png"]}
    assert find_groups("/([a-z])_", names).together == {"a": ["p1/a_0.png", "p2/a_0.png"]}
    with pytest.raises(UserError, match=r"is found in none of 4 names, such as 'p1/a_0\.png'"):
        find_groups("patient", names)
    with pytest.raises(UserError, match="is no regular expression: "):
        find_groups("p(", names)
    groups = find_groups("^.*$", names)
    assert resolve_splits({}, names, 0, groups)[1][0].reason.startswith("no two of 4 images")


def test_a_column_tells_groups() -> None:
    columns = {"Patient": {"a": "1", "b": "1", "c": "2", "d": ""}}
    assert find_groups("patient", "abcd", columns=columns).together == {"1": ["a", "b"]}
    with pytest.raises(UserError, match=r"patents is found in none .*is no column \(Patient\)"):
        find_groups("patents", "abcd", columns=columns)


def scene(seed: int) -> Image.Image:
    """Coloured patches of several sizes, as unlike another seed's as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))


def test_images_that_look_alike_are_found_whatever_their_names(tmp_path: Path) -> None:
    made = {}
    for i in range(30):
        image = scene(i)
        made[f"{i}"] = image
        if i % 3 == 0:
            made[f"{i} mirrored"] = ImageOps.mirror(image)
            made[f"{i} turned"] = image.rotate(90, expand=True)
        elif i % 3 == 1:
            made[f"{i} brighter"] = ImageEnhance.Brightness(image).enhance(1.3)
            made[f"{i} smaller"] = image.resize((80, 60))
    files = {}
    for k, (name, image) in enumerate(made.items()):
        files[name] = tmp_path / f"{k}.jpg"
        image.save(files[name], quality=70)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "grey.png")
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "grey too.png")
    files |= {name: tmp_path / name for name in ("broken.jpg", "grey.png", "grey too.png")}
    found = near_duplicates(files)
    expected = {name: name.split()[0] for name in made if int(name.split()[0]) % 3 < 2}
    assert found == expected
    groups = find_groups("near", files, images=files.get)
    assert len(groups.together) == 20
    splits, notes = resolve_splits({}, files, 0, groups)
    homes = [{found.get(name, name) for name in part} for part in splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes))
    assert notes[0].reason.startswith("60 of 73 images are in 20 groups (images that look alike)")


def test_small_things_on_flat_ground_do_not_look_alike(tmp_path: Path) -> None:
    """Their hashes are all but the same."""
    files = {}
    for i, (x, y) in enumerate([(4, 20), (32, 33), (36, 71), (55, 17), (70, 70)]):
        image = Image.new("L", (90, 90), 40)
        image.paste(220, (x, y, x + 18, y + 18))
        files[str(i)] = tmp_path / f"{i}.png"
        image.save(files[str(i)])
    assert near_duplicates(files) == {}
