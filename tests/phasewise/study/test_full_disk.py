"""Studies whose disk is full or fails: they end where they stand, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from phasewise.errors import StorageError
from phasewise.records.record import RunRecord, read_record
from phasewise.study.journal import Journal
from phasewise.study.launching import TrialExecutor
from phasewise.study.sweeper import prepare
from phasewise.study.table import sweep_table, write_csv
from tests.forks import Done
from tests.phasewise.study.test_launching import Lossy, begin, jobs
from tests.phasewise.study.test_sweeper import app, rows, sweep

pytestmark = pytest.mark.slow

__all__ = ["app"]

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
FULL = OSError(errno.ENOSPC, "No space left on device", "somewhere/last.ckpt")


def status(place: Path) -> str | None:
    record = read_record(place)
    return None if record is None else record.status


@pytest.mark.parametrize("launcher", [(), JOBLIB], ids=["here", "joblib"])
def test_a_sweep_ends_where_it_stands_and_goes_on(app: Path, launcher: tuple[str, ...]) -> None:
    def call(**environment: str) -> Done:
        return sweep(app, "optimizer.lr=1e-3,7,1e-2", *launcher, **environment)

    done = call(FULL="1")
    assert done.returncode == 1
    last = app / "out" / "optimizer.lr=7" / "last.ckpt"
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith("app.py: ")
    assert f"{last.relative_to(app)}: No space left on device (" in lines[0]
    assert lines[1] == "when that is mended, the same command continues:"
    assert lines[2].startswith("python app.py -m ")
    assert status(app / "out" / "optimizer.lr=7") == "running"
    if not launcher:  # elsewhere it had been given to the launcher already
        assert not (app / "out" / "optimizer.lr=0.01").exists()
        assert [row["status"] for row in rows(app)] == ["completed", "interrupted", "unfinished"]
    book = json.loads((app / "out" / "study.json").read_text())
    assert book["status"] == "interrupted"
    assert (book["phases"][0]["status"], book["phases"][0]["winner"]) == ("running", None)
    done = call()
    assert done.returncode == 0, done.stderr
    assert (app / "out" / "optimizer.lr=0.001" / "calls").read_text() == "x"
    assert (app / "out" / "optimizer.lr=7" / "calls").read_text() == "xx"
    assert [float(row["val/mIoU"]) > 0 for row in rows(app)] == [True] * 3


class Failing(Lossy):
    """Whose jobs raise what ``act`` raises, as Hydra reports it."""

    def launch(self, job_overrides: object, initial_job_idx: int) -> list[JobReturn]:
        found = JobReturn(status=JobStatus.FAILED)
        found.return_value = FULL
        return [found]


def test_no_trial_is_to_blame(tmp_path: Path) -> None:
    """Not even one that says it has completed, whose test did not fit."""
    (job,) = jobs(tmp_path, "a")
    executor = TrialExecutor(Failing(print), None)
    begin(job.directory)
    with pytest.raises(StorageError, match=r"somewhere/last\.ckpt: No space left on device"):
        executor._launch([job], [], Quiet())  # type: ignore[arg-type]
    for end in (None, "completed"):
        if end:
            begin(job.directory).finish(end, value=1.0)  # type: ignore[arg-type]
        assert executor.outcome(job).status == "interrupted"
    assert status(job.directory) == "completed"


def test_a_launcher_that_could_not_write_has_lost_no_worker(tmp_path: Path) -> None:
    def act(place: Path) -> None:
        begin(place)
        raise FULL

    launcher = Lossy(act)
    executor = TrialExecutor(launcher, None)
    with pytest.raises(StorageError, match=r"somewhere/last\.ckpt"):
        executor.run(jobs(tmp_path, "ab"), [], Quiet())  # type: ignore[arg-type]
    assert launcher.batches == [["a", "b"]]
    assert status(tmp_path / "a") == "running"


class Quiet:
    """Tells nobody."""

    def end(self, *_: object, **__: object) -> None:
        """Nothing."""


def test_what_a_study_writes_is_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunRecord.start(
        tmp_path / "a", task="t", fingerprint="f", overrides=[], seed=0, metric="x", mode="max"
    )
    book = Journal(tmp_path, "s", "t", [], {}, [])
    book.write()
    write_csv(sweep_table([record]), tmp_path / "sweep.csv")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert len(before) == 2

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    book.name = "another"
    with pytest.raises(StorageError, match=r"study\.json: No space left"):
        book.write()
    with pytest.raises(StorageError, match=r"sweep\.csv: No space left"):
        write_csv(sweep_table([record, record]), tmp_path / "sweep.csv")
    with pytest.raises(StorageError, match=r"multirun\.yaml: No space left"):
        prepare(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before
