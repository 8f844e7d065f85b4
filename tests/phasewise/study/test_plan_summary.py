"""What a study says before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.records.record import RunRecord
from phasewise.study.journal import Journal
from phasewise.study.plan_summary import data_notes
from tests.phasewise.study.synthetic import write_config


@pytest.mark.parametrize(("of_run", "told"), [("A", []), ("C", ["A holds the same data as C"])])
def test_a_moved_folder_is_told_of_the_runs_that_are_used(
    tmp_path: Path, of_run: str, told: list[str]
) -> None:
    """The last call, on other data, set them aside."""
    goal = {"metric": "val/x", "mode": "max"}
    book = Journal(tmp_path, "toy", "toy", [], goal, [0], data={"last": {"root": "B"}})
    book.write()
    write_config(tmp_path / "run", {"data.root": of_run})
    run = RunRecord(
        directory=tmp_path / "run",
        task="toy",
        fingerprint="f",
        overrides=[],
        seed=0,
        objective=goal,
        data={"hash": "h"},
    )
    book.data = {"now": {"root": "A"}}
    notes = [note.removeprefix("note: data.root=") for note in data_notes(book, [run])]
    assert notes == [f"{one} did" for one in told]
