"""Which files a source means, and that no two results have one name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.inference.prediction.sources import Item, list_images, title


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def named(items: list[Item]) -> dict[str, str]:
    return {item.name: item.stem for item in items}


def refused(text: object) -> str:
    with pytest.raises(UserError) as error:
        list_images(str(text), "source")
    return str(error.value)


def test_a_file_of_any_ending(tmp_path: Path) -> None:
    touch(tmp_path, "scan.dat")
    assert named(list_images(f"{tmp_path}/scan.dat", "source")) == {"scan.dat": "scan"}


def test_a_folder_with_all_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a b/ü (1).Tiff", "a b/c/d.e.png", "notes.txt", ".hidden.jpg")
    touch(tmp_path, ".git/x.png", "a b/._c.jpg")
    assert named(list_images(str(tmp_path), "source")) == {
        "a b/c/d.e.png": "a b/c/d.e",
        "a b/ü (1).Tiff": "a b/ü (1)",
        "b.JPG": "b",
    }


def test_one_name_in_several_folders_stays_apart(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.png", "two/a.png")
    assert named(list_images(str(tmp_path), "source")) == {
        "one/a.png": "one/a",
        "two/a.png": "two/a",
    }


def test_one_name_with_several_endings_stays_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/a.jpg", "x/a.jpg.png", "x/A.bmp", "y/a.png")
    found = named(list_images(str(tmp_path), "source"))
    assert found == {
        **{f"x/{name}": f"x/{name}" for name in ("a.png", "a.jpg", "a.jpg.png", "A.bmp")},
        "y/a.png": "y/a",
    }
    assert len(set(found.values())) == 5


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "source/b.png")
    (tmp_path / "source/linked").symlink_to(tmp_path / "real")
    (tmp_path / "source/round").symlink_to(tmp_path / "source")
    assert list(named(list_images(f"{tmp_path}/source", "source"))) == ["b.png", "linked/a.png"]


def test_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "d/1/a.png", "d/2/a.PNG", "d/2/b.jpg", "d/2/c.txt", "e.png")
    found = list_images(f"{tmp_path}/d/*/*", "source")
    assert named(found) == {"1/a.png": "1/a", "2/a.PNG": "2/a", "2/b.jpg": "2/b"}
    assert named(list_images(f"{tmp_path}/**/*.png", "source")) == {
        "d/1/a.png": "d/1/a",
        "e.png": "e",
    }


def test_a_pattern_that_climbs_up_stays_inside_the_results(tmp_path: Path) -> None:
    touch(tmp_path, "d/1/x", "a.png", "b.png")
    found = list_images(f"{tmp_path}/d/*/../../*.png", "source")
    assert named(found) == {"a.png": "a", "b.png": "b"}


def test_a_name_with_brackets_is_no_pattern_where_it_exists(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png", "a1.png")
    assert list(named(list_images(f"{tmp_path}/a[1].png", "source"))) == ["a[1].png"]


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    (item,) = list_images(str(tmp_path), "source")
    assert item.path.exists()
    assert item.name.encode().startswith(b"\\")
    assert item.stem.encode()


def test_results_of_an_earlier_call_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "overlays/a.jpg")
    left_out = [tmp_path / "overlays", tmp_path / "masks"]
    for text in (str(tmp_path), f"{tmp_path}/**/*"):
        assert list(named(list_images(text, "source", left_out))) == ["a.png"]


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "texts/a.txt", "folders/one/a.png")
    assert "no such file or folder" in refused(tmp_path / "gone.jpg")
    assert f"{tmp_path} is there" in refused(tmp_path / "gone/away.jpg")
    assert "it is empty" in refused(tmp_path / "empty")
    assert "none of the 1 files below it is an image (.jpg, " in refused(tmp_path / "texts")
    assert "the pattern matches nothing" in refused(tmp_path / "*.bmp")
    assert "the pattern matches files, but no image" in refused(tmp_path / "texts/*")
    assert "folders/*/* looks into them" in refused(tmp_path / "folders/*")


def test_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/a.b.jpg")
    monkeypatch.chdir(tmp_path / "photos")
    for text in (".", f"{tmp_path}/photos/", f"{tmp_path}/photos/*.jpg", "*.jpg", "./*/x.png"):
        assert title(text) == "photos"
    assert title("a.b.jpg") == "a.b"
    assert title("/*.jpg") == "images"
