from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from phasewise.config.fingerprint import fingerprint
from phasewise.config.previous import has_no_epochs, previous_run
from phasewise.errors import UserError
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


@pytest.mark.parametrize(
    ("now", "longer"),
    [
        ({"trainer": {"max_epochs": 3}, "lr": 1}, True),
        ({"trainer": {"max_epochs": 3}, "lr": 2}, False),
        ({"trainer": {"max_epochs": 2}, "lr": 2}, False),
    ],
)
def test_who_only_wants_more_epochs_is_told_how(
    tmp_path: Path, now: dict[str, Any], longer: bool
) -> None:
    before = OmegaConf.create({"trainer": {"max_epochs": 2}, "lr": 1})
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(before, tmp_path / ".hydra" / "config.yaml")
    record = start(tmp_path)
    record.fingerprint = fingerprint(before)
    record.finish("completed", cost={"epochs": 2})
    with pytest.raises(UserError) as error:
        previous_run(tmp_path, OmegaConf.create(now))
    way = f"to train on from its weights: init_from={tmp_path} hydra.run.dir=DIR"
    assert (way in str(error.value)) == longer
