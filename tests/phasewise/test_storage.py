"""Faults of disks, told from other errors; files that are whole or as they were."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

import pytest

from phasewise.errors import StorageError, UserError
from phasewise.storage import amount, check_room, remove_drafts, storage_error, write_whole


def chained(*errors: BaseException) -> BaseException:
    """The last one, raised while the others before it were handled."""
    for earlier, later in pairwise(errors):
        later.__context__ = earlier
    return errors[-1]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EFBIG", "ESTALE"])
def test_a_disk_that_is_full_or_fails_is_told_with_the_file(name: str, tmp_path: Path) -> None:
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), str(tmp_path / "a"))
    for outer in (error, chained(error, UserError("x")), chained(error, ValueError("y"))):
        found = storage_error(outer)
        assert found is not None
        assert str(found).startswith(f"{tmp_path / 'a'}: {os.strerror(number)}")
        assert str(found).endswith("the same command continues")
    assert ("free there" in str(found)) == (name == "ENOSPC")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("OSError: [Errno 28] No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
        RuntimeError("The exit codes of the workers are {SIGBUS(-7)}"),
        FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_one_that_names_no_file_is_told_with_the_fullest_place(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = {tmp_path: 9, tmp_path / "full": 1}
    (tmp_path / "full").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10, 0, free[place]))
    found = storage_error(error, [tmp_path, tmp_path / "full" / "run"])
    assert str(found).startswith(f"{tmp_path / 'full' / 'run'}: ")


def test_of_several_faults_the_first_is_told() -> None:
    first, second = StorageError("first"), OSError(errno.EIO, "second", "b")
    assert storage_error(chained(first, second)) is first
    assert storage_error(chained(second, first)) is first


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ConnectionError(errno.ECONNREFUSED, "Connection refused"),
        UserError("bad value"),
        MemoryError(),
        chained(OSError(errno.ENOSPC, "full"), KeyboardInterrupt()),
        None,
    ],
)
def test_other_errors_and_interrupts_are_none(error: BaseException | None) -> None:
    assert storage_error(error) is None


def test_a_file_is_as_it_was_where_its_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "before")
    draft: list[list[str]] = []

    def full(descriptor: int) -> None:
        draft.append(sorted(os.listdir(tmp_path)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    told = rf"{path}: No space left on device \(2\.5 MB are needed, .* free there\)"
    with pytest.raises(StorageError, match=told):
        write_whole(path, b"x" * 2_500_000)
    assert draft == [[f".a.json.{os.getpid()}", "a.json"]]  # beside it
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.read_text() == "before"
    monkeypatch.undo()
    write_whole(path, memoryview(b"after"))
    assert path.read_bytes() == b"after"
    with pytest.raises(UserError, match=r"cannot be written: .*\nsomewhere else"):
        write_whole(path / "b", "", "somewhere else")


def test_drafts_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.json.12", ".a.json.3456", ".b.json.7", ".a.json", "a.json", "a.json.12"):
        (tmp_path / name).touch()
    remove_drafts(tmp_path / "a.json")
    left = sorted(os.listdir(tmp_path))
    assert left == [".a.json", ".b.json.7", "a.json", "a.json.12"]


def test_what_will_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 10**6))
    check_room(tmp_path / "new", 10**6, "x", "y")
    with pytest.raises(StorageError) as caught:
        check_room(tmp_path / "new", 240 * 10**9, "images", "fewer of them")
    assert str(caught.value).splitlines() == [
        f"images: 240.0 GB are needed, and 1.0 MB are free in {tmp_path / 'new'}",
        "fewer of them; when that is mended, the same command continues",
    ]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))  # some systems do not say
    check_room(tmp_path, 10**12, "x", "y")
    assert [amount(size) for size in (12_300, 3_210_000)] == ["12.3 kB", "3.2 MB"]
