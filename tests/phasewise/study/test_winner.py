"""The run that comes out of a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.study.journal import JOURNAL, read_journal
from phasewise.study.results import objective_value
from phasewise.study.winner import winning_run
from tests.phasewise.study.synthetic import Synthetic


def value(run: Path | None) -> float:
    from phasewise.records.record import read_record

    assert run is not None
    record = read_record(run)
    assert record is not None
    return objective_value(record)


def best_of(directory: Path, phase: int, candidate: int) -> Path:
    journal = read_journal(directory)
    assert journal is not None
    trials = journal.phases[phase].candidates[candidate].trials
    return max((directory / trial.directory for trial in trials), key=value)


def test_the_best_seed_of_the_final_configuration(tmp_path: Path) -> None:
    journal = Synthetic(test=True).write(tmp_path)
    assert journal.phases[-1].kind == "test"
    run = winning_run(tmp_path)
    assert run == best_of(tmp_path, -1, 0)
    assert run is not None and "gelu" in (run / "record.json").read_text()


def test_the_winner_of_the_last_phase_that_was_decided(tmp_path: Path) -> None:
    journal = Synthetic().write(tmp_path)
    winner = journal.phases[-1].winner
    assert winner is not None
    assert winning_run(tmp_path) == best_of(tmp_path, -1, winner)
    journal.phases[-1].winner = None
    journal.write()
    winner = journal.phases[0].winner
    assert winner is not None
    assert winning_run(tmp_path) == best_of(tmp_path, 0, winner)


def test_where_less_is_better(tmp_path: Path) -> None:
    journal = Synthetic(phases={"": "optimizer.lr=1e-4,1e-3,1e-2"}, metric="val/loss", mode="min")
    written = journal.write(tmp_path)
    winner = written.phases[0].winner
    assert winner is not None
    runs = [tmp_path / trial.directory for trial in written.phases[0].candidates[winner].trials]
    assert winning_run(tmp_path) == min(runs, key=value)


def test_no_study_and_none_that_has_a_winner(tmp_path: Path) -> None:
    assert winning_run(tmp_path) is None
    assert winning_run(tmp_path / "missing") is None
    journal = Synthetic().write(tmp_path)
    for phase in journal.phases:
        phase.winner = None
    journal.write()
    with pytest.raises(UserError, match="no phase of this study has a winner yet"):
        winning_run(tmp_path)
    (tmp_path / JOURNAL).write_text(json.dumps({"schema": 1}))
    with pytest.raises(UserError, match="damaged"):
        winning_run(tmp_path)


def test_a_run_that_is_gone_leaves_the_next_best_seed(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    first = winning_run(tmp_path)
    assert first is not None
    shutil.rmtree(first)
    assert winning_run(tmp_path) not in (first, None)
