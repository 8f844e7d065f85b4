"""``data.check=true``: a page about the data, and no training."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
from omegaconf import DictConfig

from phasewise.errors import UserError
from phasewise.training import data_check
from phasewise.training.data_check import show_data
from tests.conftest import TINY_RUNS
from tests.voc_folder import VocFolder

Make = Callable[..., DictConfig]

VOC = ("data=voc", "data.image_size=32", "data.check=true")


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open() as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("task", TINY_RUNS)
def test_the_embedded_data_of_each_task(task: str, make_config: Make, tmp_path: Path) -> None:
    show_data(make_config(f"task={task}", *TINY_RUNS[task], "data.check=true"), tmp_path)
    splits = [row["split"] for row in rows(tmp_path, "data")]
    assert splits == ["training", "validation", "test"]
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn == ["samples_test.png", "samples_train.png", "samples_val.png"]
    assert "<h1>Data: " in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "record.json").exists()


def test_what_stops_a_run_is_on_the_page_and_told(
    make_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = VocFolder(tmp_path / "data")
    folder.annotate("train-1", xmax=400)
    config = make_config(*VOC, f"data.root={folder.root}")
    with caplog.at_level(logging.INFO), pytest.raises(UserError) as error:
        show_data(config, tmp_path / "out")
    assert "train-1.xml" in str(error.value)
    assert "data.on_bad=skip" in str(error.value)
    (left_out,) = rows(tmp_path / "out", "data_left_out")
    assert "train-1" in left_out["where"]
    assert [row["images"] for row in rows(tmp_path / "out", "data")] == ["3", "2"]
    assert str(tmp_path / "out" / "report.html") in caplog.text


def test_an_objective_that_means_nothing_is_told_after_the_page(
    make_config: Make, tmp_path: Path
) -> None:
    folder = VocFolder(tmp_path / "data")
    for path in (folder.root / "SegmentationClass").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no validation image has a mask"):
        show_data(make_config(*VOC, f"data.root={folder.root}"), tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "samples_val.png").is_file()


def test_other_data_are_left_to_their_makers(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_check, "build_data", lambda config: L.LightningDataModule())
    with pytest.raises(UserError, match="shows data sets of this project only"):
        show_data(make_config("data.check=true"), tmp_path)
