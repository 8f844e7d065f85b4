from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasewise.data.listing import (
    SHOWN,
    by,
    check_filled,
    check_folder,
    files_in,
    find_layouts,
    folder_names,
    is_text,
)
from phasewise.errors import Problem, UserError


def test_folders_are_listed_sorted_and_not_without_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_names(tmp_path) == "none"
    for number in reversed(range(SHOWN)):
        (tmp_path / f"{number:02}").mkdir()
    assert folder_names(tmp_path) == "00, 01, 02, 03, 04, 05, 06, 07, 08, 09"
    (tmp_path / "10").mkdir()
    assert folder_names(tmp_path).endswith("08, 09, ...")


@pytest.mark.parametrize(("name", "what"), [("file", "is a file"), ("gone", "does not exist")])
def test_what_is_no_folder(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "file").write_text("")
    assert check_folder(str(tmp_path), "images") == tmp_path
    with pytest.raises(UserError) as error:
        check_folder(tmp_path / name, "images")
    told = f"data.root={tmp_path / name} {what}; it must be a folder with images"
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("train", "val", "empty"),
    [(["a"], [], "val"), ([], ["a"], "train"), ([], [], "train and val")],
)
def test_why_a_split_is_empty(train: list[str], val: list[str], empty: str) -> None:
    samples = {"train": train, "val": val, "test": []}
    with pytest.raises(UserError, match=f"has no sample for {empty}. Lists read: a.txt, b.txt."):
        check_filled(Path("root"), samples, ["a.txt", "b.txt"], [])
    bad = [Problem("a.png", "is empty")]
    with pytest.raises(UserError) as error:
        check_filled(Path("root"), samples, [], bad)
    assert str(error.value).splitlines() == [
        f"1 sample in data.root=root cannot be used, which leaves {empty} empty:",
        "  a.png: is empty",
        "mend them. No lists; split by hashed name",
    ]


def test_only_test_may_be_empty() -> None:
    check_filled(Path("root"), {"train": ["a"], "val": ["b"], "test": []}, [], [])


def test_names_and_sizes() -> None:
    assert by((640, 480)) == "640x480"
    assert is_text("Größe.png")
    assert not is_text(b"Gr\xf6\xdfe.png".decode("utf-8", "surrogateescape"))


def test_layouts_are_found_two_levels_below(tmp_path: Path) -> None:
    for place in ("a", "b/c", "d/e/f", "g"):
        (tmp_path / place / "images").mkdir(parents=True)
        (tmp_path / place / "masks").mkdir()
    (tmp_path / "g" / "masks").rmdir()
    assert find_layouts(tmp_path, "images", "masks") == [tmp_path / "a", tmp_path / "b" / "c"]
    assert find_layouts(tmp_path / "a", "images") == [tmp_path / "a"]


def test_what_may_never_end_is_refused_by_name_and_folders_and_links_are_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "b.PNG").write_bytes(b"")
    (tmp_path / "far").write_bytes(b"")
    (tmp_path / "a.png").symlink_to(tmp_path / "far")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "._b.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.txt")  # not asked for
    found = [path.name for path in files_in(tmp_path, (".png",))]
    assert found == ["a.png", "b.PNG", "broken.png", "c.png"]
    os.mkfifo(tmp_path / "d.png")
    with pytest.raises(UserError, match=r"d\.png is a named pipe, no regular file; remove it"):
        files_in(tmp_path, (".png",))
