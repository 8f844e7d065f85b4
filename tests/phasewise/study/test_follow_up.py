"""Rounds that a study proposes itself, by their command line (study_toy.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import read_record
from phasewise.study.journal import Phase
from tests.phasewise.study.whole import calls, journal, make_app, results, runs, study, write_study

PHASES: dict[str, Any] = {"rate": "optimizer.lr=1e-4,3e-4,1e-3"}
FOLLOW = "study.follow_up={rounds:3}"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    make_app(tmp_path)
    write_study(tmp_path, PHASES)
    return tmp_path


def rounds(app: Path) -> list[Phase]:
    return [phase for phase in journal(app).phases if phase.round]


def test_rounds_go_beyond_the_edge_and_test_once(app: Path) -> None:
    """The toy is best near a rate of .01, of which the file's phase has none."""
    done = study(app, FOLLOW)
    assert done.returncode == 0, done.stderr
    book, found = journal(app), rounds(app)
    first = found[0]
    assert (first.name, first.round) == ("round1_lr_beyond", 1)
    assert first.why.startswith("the best optimizer.lr, 0.001, is the largest of all")
    assert first.declared == {"optimizer.lr": ["0.003333", "0.01111"]}
    assert max(phase.round for phase in found) <= 3
    assert [phase.round for phase in found] == sorted(phase.round for phase in found)
    assert book.phases[-1].kind == "test"
    assert book.rounds_ended
    assert all(phase.status == "completed" and phase.why for phase in found)
    looked = [path for path in runs(app) if (it := read_record(path)) and it.test]
    assert len(looked) == 2  # the final configuration and the start
    final = book.phases[-1].candidates[0].overrides
    assert "optimizer.lr=0.01111" in final
    assert f"follow-up: {book.rounds_ended}" in done.stdout


@pytest.mark.slow
def test_a_killed_study_comes_to_the_same(
    app: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    make_app(whole)
    write_study(whole, PHASES)
    assert study(whole, FOLLOW).returncode == 0
    for epoch in ("6", "9", "14"):
        assert study(app, FOLLOW, KILL_AT=epoch).returncode != 0
    done = study(app, FOLLOW)
    assert done.returncode == 0, done.stderr
    assert [(it.name, it.why, it.declared) for it in rounds(app)] == [
        (it.name, it.why, it.declared) for it in rounds(whole)
    ]
    values = [
        sorted(
            (path.relative_to(place / "out").as_posix(), read_record(path).objective["value"])  # type: ignore[union-attr]
            for path in runs(place)
        )
        for place in (app, whole)
    ]
    assert values[0] == values[1]
    before = results(app)
    again = study(app, FOLLOW)
    assert again.returncode == 0, again.stderr
    assert results(app) == before
    plan = study(app, FOLLOW, "study.dry_run=true")
    assert "of an earlier call among these" in plan.stdout
    assert "since the last call" not in plan.stdout
    assert "round1_lr_beyond" in plan.stdout
    assert results(app) == before


@pytest.mark.slow
def test_hours_of_the_rounds_end_them(app: Path) -> None:
    done = study(app, "study.follow_up={rounds:3,max_hours:1e-9}")
    assert done.returncode == 0, done.stderr
    found = rounds(app)
    assert {phase.round for phase in found} == {1}
    assert journal(app).rounds_ended == "the time was up"
    left = [phase.out_of_hours for phase in found]
    assert all(it is None or it.key == "study.follow_up.max_hours" for it in left)
    assert any(it is not None for it in left)
    assert any(path.startswith("round1_lr_beyond") for path in calls(app))  # what had begun


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("study.follow_up={rounds:0}", "study.follow_up.rounds=0: must be a whole number >= 1"),
        ("study.follow_up={round:3}", "no such key; did you mean rounds"),
        ("study.follow_up=3", "must be a mapping, e.g. {rounds: 3, max_hours: 8}"),
    ],
)
def test_what_cannot_be_is_refused(app: Path, word: str, text: str) -> None:
    done = study(app, word)
    assert done.returncode == 2
    assert text in done.stderr
    assert not (app / "out").exists()
