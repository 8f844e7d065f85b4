"""Files that predictions leave: whole or not at all, and nobody else's are touched."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phasewise.errors import UserError
from phasewise.inference.prediction.output import INDEX, LONGEST_JPEG, PredictionOutput, results_in

PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    output = PredictionOutput(tmp_path / "new/folder", ["boxes.csv", "overlays"])
    output.index({"predictions": "x", "name": "Über"})
    assert output.picture("overlays/sub/a b.png", PICTURE) == "overlays/sub/a b.png"
    output.table("boxes", ("file", "x"), [('a,"b".jpg', 1.5)])
    folder = tmp_path / "new/folder"
    assert json.loads((folder / INDEX).read_text(encoding="utf-8"))["name"] == "Über"
    with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["file", "x"], ['a,"b".jpg', "1.5"]]
    with Image.open(folder / "overlays/sub/a b.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(PICTURE))
    assert results_in(folder)[0] == folder / "overlays"


def test_a_side_beyond_jpeg_becomes_png(tmp_path: Path) -> None:
    wide = Image.new("RGB", (LONGEST_JPEG + 1, 1))
    assert PredictionOutput(tmp_path, []).picture("overlays/a.jpg", wide) == "overlays/a.png"
    with Image.open(tmp_path / "overlays/a.png") as image:
        assert image.size == wide.size


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = PredictionOutput(tmp_path, [])
    output.index({"predictions": 1})
    before = (tmp_path / INDEX).read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", fail)
    told = "cannot be written: Permission denied\noutput=DIR chooses another place"
    with pytest.raises(UserError, match=told):
        output.index({"predictions": 2})
    assert (tmp_path / INDEX).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


@pytest.mark.parametrize("name", ["masks", "boxes.csv", INDEX])
def test_files_of_others_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "unrelated.txt").touch()
    with pytest.raises(UserError, match=f"{name} in it would be overwritten"):
        PredictionOutput(tmp_path, ["boxes.csv", "masks"])
    assert results_in(tmp_path) == []


def test_a_folder_with_other_things_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    PredictionOutput(tmp_path, ["boxes.csv", "masks"]).index({"predictions": "x"})
    (tmp_path / "masks").mkdir()
    PredictionOutput(tmp_path, ["boxes.csv", "masks"])  # ours now
