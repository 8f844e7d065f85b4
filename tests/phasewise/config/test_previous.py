from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.config.previous import has_no_epochs
from phasewise.records.history import History
from phasewise.records.record import RunRecord
from phasewise.records.schema import Status


def start(directory: Path) -> RunRecord:
    return RunRecord.start(
        directory,
        task="toy",
        fingerprint="f",
        overrides=[],
        seed=0,
        metric="val/x",
        mode="max",
    )


def test_a_process_that_was_killed_in_its_first_epoch_left_nothing(tmp_path: Path) -> None:
    record = start(tmp_path)
    assert has_no_epochs(record)
    History(tmp_path).append({"epoch": 1, "val/x": 0.5})
    assert not has_no_epochs(record)


@pytest.mark.parametrize("status", ["failed", "interrupted", "paused", "completed"])
def test_what_a_run_that_ended_has_left(tmp_path: Path, status: Status) -> None:
    record = start(tmp_path)
    record.finish(status, cost={"epochs": 0})
    assert has_no_epochs(record) == (status != "completed")
    record.finish(status, cost={"epochs": 1})
    assert not has_no_epochs(record)
