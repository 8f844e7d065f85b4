from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from phasewise.errors import BadSample, UserError
from phasewise.records import content
from phasewise.records.content import Contents
from tests.phasewise.data.folders import write

LONG_AGO = time.time() - 1000


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old as soon as they are written, as far as the clock goes."""
    monkeypatch.setattr(content, "UNSURE_SECONDS", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "data/a.txt", "one")
    write(tmp_path / "data/sub/b.txt", "two")
    return tmp_path / "data"


def test_bytes_count_and_times_and_places_do_not(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = Contents(root, cache).of("a.txt")
    os.utime(root / "a.txt", (1, 1))
    assert Contents(root, cache).of("a.txt") == before
    shutil.move(root, tmp_path / "moved")
    assert Contents(tmp_path / "moved", cache).of("a.txt") == before
    assert Contents(tmp_path / "moved", cache).of("sub/b.txt") != before


def test_what_is_remembered_is_not_read_again(
    root: Path, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Contents(root, tmp_path / "cache")
    known = first.of("a.txt")
    first.save()
    monkeypatch.setattr(content, "_hash", None)
    again = Contents(root, tmp_path / "cache")
    assert again.of("a.txt") == known
    with pytest.raises(TypeError):
        again.of("sub/b.txt")


def test_other_bytes_of_the_same_size_with_the_old_time_are_seen(
    root: Path, tmp_path: Path, settled: None
) -> None:
    first = Contents(root, tmp_path / "cache")
    known = first.of("a.txt")
    first.save()
    times = (root / "a.txt").stat()
    (root / "a.txt").write_text("eno")
    os.utime(root / "a.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Contents(root, tmp_path / "cache").of("a.txt") != known


def test_a_file_written_a_moment_ago_is_not_remembered(root: Path, tmp_path: Path) -> None:
    first = Contents(root, tmp_path / "cache")
    first.of("a.txt")
    first.save()
    assert not (tmp_path / "cache").exists()


def test_a_damaged_memory_is_none(root: Path, tmp_path: Path, settled: None) -> None:
    first = Contents(root, tmp_path / "cache")
    known = first.of("a.txt")
    first.save()
    (file,) = (tmp_path / "cache" / content.FOLDER).iterdir()
    for text in ("{", "[]", ""):
        file.write_text(text)
        assert Contents(root, tmp_path / "cache").of("a.txt") == known


def test_a_file_that_changes_while_it_is_used_is_told(root: Path, tmp_path: Path) -> None:
    contents = Contents(root, tmp_path / "cache")
    assert contents.key(root / "a.txt") == ["a.txt", contents.of("a.txt")]
    contents.check_unchanged()
    (root / "a.txt").write_text("other")
    with pytest.raises(UserError, match=r"a\.txt changed while it was read"):
        contents.check_unchanged()


def test_a_file_that_is_gone_is_a_bad_sample(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSample, match=r"c\.txt: cannot be read: No such file"):
        Contents(root, tmp_path / "cache").key(root / "c.txt")


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    root: Path, tmp_path: Path, settled: None
) -> None:
    (tmp_path / "cache").write_text("a file")
    contents = Contents(root, tmp_path / "cache")
    contents.of("a.txt")
    contents.save()
