"""``report.py`` as a person calls it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.report.watch import stamps, watch
from tests import forks
from tests.conftest import ROOT
from tests.forks import Done
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic


def call(*words: str | Path) -> Done:
    return forks.engine().run(["report.py", *map(str, words)], ROOT)


def test_writes_where_it_is_told_and_says_where(study: Path, tmp_path: Path) -> None:
    before = sorted(study.iterdir())
    done = call(study, "--output", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'out' / 'report.html'}\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("figures", "final.yaml", "report.html", "report.md", "tables")
    ]
    assert sorted(study.iterdir()) == before


@pytest.mark.parametrize("words", [["nowhere"], ["report.py"], ["tests"]])
def test_what_is_no_study_is_told_in_a_line(words: list[str]) -> None:
    done = call(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"report.py: {words[0]}")
    assert "Traceback" not in done.stderr


def test_a_place_that_is_a_file(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call(study, "--output", tmp_path / "file")
    assert done.returncode == 2
    assert "--output DIR chooses another place" in done.stderr


def test_help_is_quick() -> None:
    code = (
        "import sys; sys.argv = ['report.py', '--help']; import phasewise.report.command as c\n"
        "try: c.main()\nexcept SystemExit: pass\n"
        "print([n for n in ('torch', 'pandas', 'matplotlib', 'hydra') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--watch" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_compares_two_studies(study: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(study, first)
    other = tmp_path / "other"
    words = CLEAN["lr"].replace("1e-4,", "")
    Synthetic({"lr": words}, epochs=5, seeds=[0, 1]).write(other)
    done = call(first, other)
    assert (done.returncode, done.stderr) == (0, "")
    place = first / "compare_other"
    assert done.stdout == f"{place / 'report.html'}\n"
    text = (place / "report.md").read_text()
    for title in ("Side by side", "Best configurations", "Values that both tried", "Best runs"):
        assert f"## {title}\n" in text
    rows = (place / "tables" / "shared_values.csv").read_text().splitlines()
    assert rows[0] == "key,value,first,other"
    assert rows[1].startswith("optimizer.lr,0.0001,0.4") and rows[1].endswith(",")
    assert (place / "figures" / "shared_values.png").is_file()
    assert "The objectives differ" not in text


def test_different_objectives_are_not_subtracted(study: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Synthetic({"": CLEAN["lr"]}, seeds=[0], metric="val/loss", mode="min").write(other)
    done = call(study, other, "--output", tmp_path / "out")
    assert done.returncode == 0
    assert "The objectives differ" in (tmp_path / "out" / "report.md").read_text()
    assert "difference" not in (tmp_path / "out" / "tables" / "scores.csv").read_text()


def test_sizes_of_images_that_differ_are_told(study: Path, tmp_path: Path) -> None:
    for name, size in (("fine", 512), ("coarse", 256)):

        def resize(
            record: RunRecord, rows: list[Row], settings: Settings, size: int = size
        ) -> None:
            record.data["image_size"] = size

        Synthetic({"": CLEAN["lr"]}, seeds=[0], edit=resize).write(tmp_path / name)
    for other, told in (("coarse", True), ("fine", False)):
        out = tmp_path / f"out_{other}"
        assert call(tmp_path / "fine", tmp_path / other, "--output", out).returncode == 0
        text = (out / "report.md").read_text()
        assert ("The images have different sizes" in text) == told
        assert ("size=256 scores the finer one at 256 pixels" in text) == told
    assert call(study, tmp_path / "fine", "--output", tmp_path / "old").returncode == 0
    assert "different sizes" not in (tmp_path / "old" / "report.md").read_text()


def test_watching_writes_again_when_something_has_changed(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    record = next(copy.glob("lr/*/record.json"))
    before = stamps([copy])
    assert len(before) == 31  # the journal, and two files of each run
    written: list[int] = []

    def write() -> None:
        written.append(len(written))
        if len(written) == 1:
            (copy / "report.md").write_text("no reason to write again")
            assert stamps([copy]) == before
        elif len(written) == 2:
            raise UserError("damaged for a moment")  # is tried again
        elif len(written) == 3:
            content = json.loads(record.read_text())
            record.write_text(json.dumps(content | {"status": "interrupted"}))
        else:
            raise KeyboardInterrupt

    changed = False

    def sleep(seconds: float) -> None:
        nonlocal changed
        if not changed:
            changed = True
            os.utime(record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        watch([copy], write, pause=0)
    assert written == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_watch_ends_with_ctrl_c_also_in_the_background(
    study: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["report.py", str(study), "--watch", "--output", str(tmp_path)]
    with forks.engine().start(words, ROOT, pipe=True, ignored=True) as child:
        assert child.readline().strip() == str(tmp_path / "report.html")
        child.signal(number)
        assert child.wait().returncode == code
    # a study that has ended needs no second look
    assert 'http-equiv="refresh"' not in (tmp_path / "report.html").read_text()
