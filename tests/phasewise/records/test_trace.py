from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from PIL import Image

from phasewise.records.trace import traced
from tests.phasewise.data.folders import write


def test_what_is_opened_and_listed_below_the_root_is_noted(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root / "a/b/c.json", "{}")
    write(root / "a/unread.txt", "")
    write(root / "lists/empty.txt", "")
    Image.new("RGB", (4, 4)).save(root / "a/picture.png")
    write(tmp_path / "outside.txt", "")
    with traced(root) as trace, ThreadPoolExecutor(1) as pool:
        json.loads((root / "a/b/c.json").read_text())
        pool.submit(lambda: Image.open(root / "a/picture.png").load()).result()
        (tmp_path / "outside.txt").read_text()
        (root / "written.txt").write_text("")
        list((root / "lists").iterdir())
    (root / "a/unread.txt").read_text()
    assert trace.files == {"a/b/c.json", "a/picture.png"}
    assert trace.listed == {"lists"}
    # a list that is not there yet would be in one of these
    assert trace.folders() == [".", "a", "a/b", "lists"]


def test_a_file_that_is_not_there_was_looked_for(tmp_path: Path) -> None:
    with traced(tmp_path) as trace:
        assert not (tmp_path / "list.txt").exists()
        with suppress(FileNotFoundError):
            (tmp_path / "labels.txt").read_text()
    assert trace.files == {"labels.txt"}
    assert trace.folders() == ["."]
