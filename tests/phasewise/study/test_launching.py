"""What is repeated after a launcher has lost workers, with launchers that lose them on purpose."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from phasewise.records.record import RunRecord, read_record
from phasewise.study.launcher_plugins import configure
from phasewise.study.launching import TrialExecutor
from phasewise.study.progress import Progress
from phasewise.study.trial_job import TrialJob


class Lossy(Launcher):
    """Runs ``act`` on each trial of a batch in turn; when that raises, the batch is lost."""

    def __init__(self, act: Callable[[Path], None]) -> None:
        self.act = act
        self.batches: list[list[str]] = []

    def setup(self, **_: Any) -> None:
        """Not needed."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        words = [dict(word.split("=", 1) for word in it) for it in job_overrides]
        places = [
            Path(it["hydra.sweep.dir"].strip("'")) / it["hydra.sweep.subdir"].strip("'")
            for it in words
        ]
        self.batches.append([place.name for place in places])
        for place in places:
            self.act(place)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in places]


def begin(place: Path) -> RunRecord:
    return RunRecord.start(
        place, task="t", fingerprint="f", overrides=[], seed=0, metric="val/x", mode="max"
    )


def jobs(folder: Path, names: str) -> list[TrialJob]:
    return [TrialJob(name, [], folder / name, name, "f") for name in names]


def run(folder: Path, names: str, act: Callable[[Path], None]) -> list[list[str]]:
    launcher = Lossy(act)
    executor = TrialExecutor(launcher, None)
    executor.run(jobs(folder, names), [], Progress("", len(names), 0, 0, "max"))
    return launcher.batches


def status(place: Path) -> str | None:
    record = read_record(place)
    return None if record is None else record.status


def test_a_killer_has_two_lives_and_its_neighbours_as_many(tmp_path: Path) -> None:
    begun: list[str] = []

    def act(place: Path) -> None:
        record = begin(place)
        begun.append(place.name)
        if place.name == "b":
            raise RuntimeError("worker lost")
        if begun != ["a"]:  # which ran beside b, and was ended with it
            record.finish("completed", value=1.0)

    assert run(tmp_path, "abcd", act) == [["a", "b", "c", "d"], ["a"], ["b"], ["c", "d"]]
    assert [status(tmp_path / name) for name in "abcd"] == [
        *("completed", "failed", "completed", "completed")
    ]
    record = read_record(tmp_path / "b")
    assert record is not None
    assert record.error is not None
    assert record.error.splitlines()[0].startswith("its worker died 2 times")
    assert record.error.splitlines()[1] == "RuntimeError: worker lost"


@pytest.mark.parametrize("earlier", ["paused", "failed", "interrupted", "completed"])
def test_what_an_earlier_call_left_is_no_end_of_this_one(tmp_path: Path, earlier: Any) -> None:
    """A trial that halving continues, or that is retried, had not begun when the worker died."""
    begin(tmp_path / "b").finish(earlier)
    before = read_record(tmp_path / "b")

    def act(place: Path) -> None:
        record = begin(place)
        if place.name == "a":
            raise RuntimeError("worker lost")
        record.finish("completed", value=2.0)

    assert run(tmp_path, "ab", act) == [["a", "b"], ["a"], ["b"]]
    record = read_record(tmp_path / "b")
    assert record != before
    assert record is not None
    assert record.objective["value"] == 2.0


def test_a_launcher_that_cannot_start_anything_raises(tmp_path: Path) -> None:
    begin(tmp_path / "a").finish("interrupted")

    def act(place: Path) -> None:
        raise RuntimeError("no such partition")

    with pytest.raises(RuntimeError, match="no such partition"):
        run(tmp_path, "ab", act)
    assert status(tmp_path / "a") == "interrupted"


class Local(Lossy):
    """As submitit's local executor calls itself."""

    _EXECUTOR = "local"


def test_submitits_local_executor_gets_no_more_trials_than_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    for given, size, threads in ((None, 8, "1"), (2, 2, "4"), (20, 20, "1")):
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert configure(Local(print), given) == size
        assert os.environ["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    configure(Local(print), None)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_other_launchers_get_all_trials_and_hydras_own_one_by_one() -> None:
    assert TrialExecutor(Lossy(print), None).batch_size is None
    assert TrialExecutor(Lossy(print), 3).batch_size == 3
    assert TrialExecutor(BasicLauncher(), None).batch_size == 1
    assert TrialExecutor(BasicLauncher(), 3).batch_size == 3
