"""Where a study lies whose settings somebody typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phasewise.cli.place import study_place
from tests.phasewise.study.whole import make_app, study, write_study

OWN = "s-image_size-256"


def begun(directory: Path, *words: str) -> None:
    directory.mkdir()
    (directory / "study.json").write_text(json.dumps({"command": ["study=s", *words]}))


def place(folder: Path, *words: str) -> str:
    return study_place(folder / "s", ["study=s", *words])[0].name


def test_the_first_one_lies_where_its_file_says(tmp_path: Path) -> None:
    assert place(tmp_path) == place(tmp_path, "data.image_size=256") == "s"


def test_other_settings_have_a_place_of_their_own(tmp_path: Path) -> None:
    begun(tmp_path / "s")
    found, note = study_place(tmp_path / "s", ["study=s", "data.image_size=256"])
    assert found == tmp_path / OWN
    assert note == f"note: {tmp_path}/s is this study with no settings typed; it goes to {found}"
    assert place(tmp_path) == "s"


def test_the_same_command_finds_its_place_again(tmp_path: Path) -> None:
    begun(tmp_path / "s", "data.image_size=256")
    assert place(tmp_path, "data.image_size=256") == "s"
    assert place(tmp_path) == "s"  # where the plan refuses it
    begun(tmp_path / "s-lr-0.1", "optimizer.lr=0.1")
    assert study_place(tmp_path / "s", ["study=s", "optimizer.lr=0.1"]) == (
        tmp_path / "s-lr-0.1",
        "",
    )
    (tmp_path / "s/study.json").unlink()
    assert place(tmp_path, "optimizer.lr=0.1") == "s-lr-0.1"


@pytest.mark.parametrize(
    "word",
    [
        *("study.seeds=[0,1]", "study.phases.a='x=1,2'", "budget=smoke", "test=false"),
        *("data.root=/elsewhere", "data.cache_dir=c", "figures.images=0", "logger=csv"),
        *("trainer.enable_progress_bar=false", "hydra/launcher=joblib", "hydra.verbose=true"),
    ],
)
def test_what_changes_nothing_that_is_computed_changes_no_place(tmp_path: Path, word: str) -> None:
    begun(tmp_path / "s")
    assert place(tmp_path, word) == "s"


def test_names_need_no_quotes_and_differ(tmp_path: Path) -> None:
    begun(tmp_path / "s")
    values = ("[flip]", "[flip,erase]", "[erase,flip]", "[" + ",".join(["flip"] * 40) + "]")
    names = {place(tmp_path, f"data.augment={value}") for value in values}
    assert len(names) == len(values)
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.+-")
        assert len(name) < 80
    assert place(tmp_path, "seed=1", "data=veri") == place(tmp_path, "data=veri", "seed=1")
    assert place(tmp_path, "data=veri", "seed=1") == "s-data-veri-seed-1"


def test_keys_of_one_name_in_two_sections_share_no_place(tmp_path: Path) -> None:
    begun(tmp_path / "s")
    one, other = "scheduler.patience=5", "early_stopping.patience=5"
    assert place(tmp_path, one) == "s-patience-5"
    begun(tmp_path / "s-patience-5", one)
    second = place(tmp_path, other)
    assert second.startswith("s-patience-5-")
    begun(tmp_path / second, other)
    (tmp_path / "s-patience-5/study.json").unlink()
    assert study_place(tmp_path / "s", ["study=s", other]) == (tmp_path / second, "")
    assert place(tmp_path, one) == "s-patience-5"


@pytest.mark.slow
def test_a_study_with_other_settings_runs_beside_the_first_one(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    write_study(app, {"rate": "optimizer.lr=1e-1,1e-2"})
    assert study(app).returncode == 0
    done = study(app, "data.image_size=64")
    assert done.returncode == 0, done.stderr
    assert "note: out is this study with no settings typed; it goes to out-image_size-64" in (
        done.stdout
    )
    again = study(app, "data.image_size=64")
    assert "2 of 2 trials are done" in again.stdout
    assert (app / "out-image_size-64/rate/optimizer.lr=0.01,seed=0/calls").read_text() == "x"
    done = study(app, "data.image_size=64", "hydra.sweep.dir=out")
    assert done.returncode == 2
    assert "holds a run of other settings (data.image_size=" in done.stderr
