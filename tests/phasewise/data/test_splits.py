from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from phasewise.data.splits import hashed_split, inside, read_list, resolve_splits
from phasewise.errors import BadSample, UserError

NAMES = [f"image {index:04d}" for index in range(1000)]


@pytest.mark.parametrize(
    "raw",
    [
        b"a\nb c\n",
        b"a\nb c",
        b"\xef\xbb\xbfa\r\n\r\nb c\r\n\r\n",
        b"a\rb c\r",
        b"  a\t\n \n\tb c  \n",
        "a\r\nb c\r\n".encode("utf-16"),  # PowerShell's redirection
    ],
)
def test_lists_of_all_editors_read_alike(tmp_path: Path, raw: Any) -> None:
    (tmp_path / "train.txt").write_bytes(raw)
    assert read_list(tmp_path / "train.txt").names == ["a", "b c"]


def test_names_stay_whole_and_duplicates_come_apart(tmp_path: Path) -> None:
    text = "2008_000002 -1\nb\nmüll tonne\x0c1\nb\nb\nc\u2028d\n"
    (tmp_path / "l.txt").write_text(text, encoding="utf-8")
    names, duplicates = read_list(tmp_path / "l.txt")
    assert names == ["2008_000002 -1", "b", "müll tonne\x0c1", "c\u2028d"]
    assert duplicates == ["b"]


def test_umlauts_as_macos_writes_them(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(unicodedata.normalize("NFD", "Bär\nBär\n"), encoding="utf-8")
    (tmp_path / "m.txt").write_text("Bär\n", encoding="utf-8")
    assert read_list(tmp_path / "l.txt").names == read_list(tmp_path / "m.txt").names == ["Bär"]


def test_empty_and_unreadable_lists(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\n\n")
    assert read_list(tmp_path / "l.txt") == ([], [])
    (tmp_path / "l.txt").write_bytes("Bär".encode("latin-1"))
    with pytest.raises(UserError, match=r"^Main/l.txt is not text in UTF-8"):
        read_list(tmp_path / "l.txt", "Main/l.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path)


@pytest.mark.parametrize("name", ["a", "a b/ü.jpg", "..a/b", "a..", "./a", "..."])
def test_inside_lets_ordinary_names_through(name: str) -> None:
    assert inside(Path("root"), name) == Path("root") / name


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../a", "a/../../b", "a/..", r"..\a", r"a\..\..\b"),
        *("/etc/passwd", r"\a", "C:/a", r"C:\a", r"\\host\share\a", "C:a", "", "a\0b"),
    ],
)
def test_inside_refuses_what_leads_out(name: Any) -> None:
    with pytest.raises(BadSample):
        inside(Path("root"), name)


def test_links_that_people_made_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "JPEGImages").symlink_to(tmp_path / "elsewhere")
    assert inside(tmp_path / "root", "JPEGImages/a.txt").read_text() == "x"


def test_hashed_split_is_a_partition_with_the_ratios() -> None:
    split = hashed_split(NAMES, 0)
    assert {key: len(names) for key, names in split.items()} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }
    assert sorted([*split["train"], *split["val"], *split["test"]]) == NAMES


def test_hashed_split_depends_on_the_seed_and_not_on_the_order() -> None:
    assert hashed_split(NAMES, 3) == hashed_split(reversed(NAMES), 3)
    assert hashed_split(NAMES + NAMES, 3) == hashed_split(NAMES, 3)
    assert hashed_split(NAMES, 3) != hashed_split(NAMES, 4)
    ranks = sorted(NAMES, key=lambda name: hashlib.sha256(f"3\0{name}".encode()).hexdigest())
    assert hashed_split(NAMES, 3)["val"] == sorted(ranks[:150])


@pytest.mark.parametrize("count", range(30))
def test_small_splits(count: Any) -> None:
    split = hashed_split(NAMES[:count], 0)
    assert sum(map(len, split.values())) == count
    assert bool(split["train"]) == (count >= 1)
    assert bool(split["val"]) == (count >= 2)
    assert len(hashed_split(NAMES[:count], 0, (0.85, 0.15, 0.0))["test"]) == 0


def test_wrong_fractions() -> None:
    with pytest.raises(ValueError, match="shares"):
        hashed_split(NAMES, 0, (0.7, 0.2, 0.2))


A, B, C = NAMES[:60], NAMES[60:100], NAMES[100:120]


def _resolve(**lists: Any) -> Any:
    splits, warnings = resolve_splits(lists, NAMES, 0)
    assert warnings == []
    return splits


def test_train_and_val_lists_are_used_as_they_are() -> None:
    assert _resolve(train=A, val=B) == {"train": A, "val": B, "test": []}
    assert _resolve(train=A, val=B, test=C, trainval=A + B) == {"train": A, "val": B, "test": C}
    assert _resolve(train=A[::-1], val=B)["train"] == A[::-1]


@pytest.mark.parametrize("key", ["train", "trainval"])
def test_a_single_list_is_split_by_hash(key: str) -> None:
    splits = _resolve(**{key: A, "test": C})
    assert (len(splits["train"]), len(splits["val"]), splits["test"]) == (51, 9, C)
    assert sorted(splits["train"] + splits["val"]) == A
    assert _resolve(**{key: A})["val"] == splits["val"]


def test_trainval_supplies_the_missing_half() -> None:
    assert _resolve(train=A, trainval=A + B) == {"train": A, "val": B, "test": []}
    assert _resolve(val=B, trainval=A + B) == {"train": A, "val": B, "test": []}
    assert len(_resolve(train=A, trainval=A)["val"]) == 9


def test_no_lists_means_a_hashed_split_of_everything() -> None:
    assert _resolve() == hashed_split(NAMES, 0)


def test_lists_that_leave_train_or_val_empty_are_not_made_up_for() -> None:
    assert _resolve(val=B, test=C)["train"] == []
    assert _resolve(test=C) == {"train": [], "val": [], "test": C}
    assert _resolve(train=A, val=[])["val"] == []


def test_a_name_in_two_splits_is_a_warning() -> None:
    splits, warnings = resolve_splits({"train": A, "val": [*B, A[0]], "test": [A[0], A[1]]}, [], 0)
    assert A[0] in splits["train"]
    assert A[0] in splits["val"]
    assert [str(warning) for warning in warnings] == [
        f"{A[0]}: is in train and val and test",
        f"{A[1]}: is in train and test",
    ]
