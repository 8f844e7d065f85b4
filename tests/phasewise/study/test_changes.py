"""A study's file changes while it lives: what that does is told before, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phasewise.study.read import read_study
from tests import forks
from tests.forks import Done
from tests.phasewise.study.whole import journal, make_app, study, write_study

RATE, DROP = "optimizer.lr=1e-2,1e-1", "model.dropout_rate=0.,.3"
ACT = "model.activation=relu,gelu"
BEFORE: dict[str, Any] = {"rate": RATE, "drop": DROP, "act": ACT}
SEEDS = [0, 2]

KILLING = """
import os, signal
left, rename = int(os.environ["RENAMES"]), os.rename
def counted(*places):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*places)
os.rename = counted
from phasewise.cli.main import main
if __name__ == "__main__":
    main("study_toy:run")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    app = make_app(tmp_path_factory.mktemp("finished"))
    (app / "killing.py").write_text(KILLING)
    write_study(app, BEFORE, seeds=SEEDS)
    done = study(app)
    assert done.returncode == 0, done.stderr
    return app


@pytest.fixture
def app(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "app")
    return tmp_path / "app"


def told(done: Done) -> list[str]:
    """What the plan says of the change."""
    notes = [it.removeprefix("note: ") for it in done.stdout.splitlines() if it[:6] == "note: "]
    lead = "since the last call: "
    first = next((n for n, it in enumerate(notes) if it.startswith(lead)), len(notes))
    found = [it.removeprefix(lead) for it in notes[first:]]
    return [it for it in found if not it.startswith("the code has changed")]


def computed(app: Path, out: str = "out") -> list[tuple[str, int]]:
    """The identity of each run, and how often it was begun."""
    found = []
    for path in sorted((app / out).rglob("record.json")):
        record = json.loads(path.read_text())
        found.append((record["fingerprint"], len((path.parent / "calls").read_text())))
    return sorted(found)


def decisions(directory: Path) -> list[Any]:
    found = read_study(directory)
    rows: list[Any] = []
    for phase in found.phases:
        plan = phase.plan
        winner = None if plan.winner is None else plan.candidates[plan.winner].overrides
        values = [(one.plan.overrides, one.values) for one in phase.candidates]
        rows.append((plan.name, plan.reason, winner, values))
    return rows


CASES: dict[str, tuple[dict[str, Any], list[int], list[str]]] = {
    "values added": (
        BEFORE | {"rate": f"{RATE},1e-9,1e-8"},
        SEEDS,
        [
            "rate: 4 of 10 new, 6 there, its winner may change",
            "drop: if rate stays with optimizer.lr=0.01: as it is",
            "act: if rate stays with optimizer.lr=0.01: as it is",
        ],
    ),
    "a better value added": (
        BEFORE | {"drop": "model.dropout_rate=0.,.3,.2", "rate": RATE},
        SEEDS,
        [
            "drop: 2 of 8 new, 6 there, its winner may change",
            "act: if drop stays with model.dropout_rate=0.0: as it is",
        ],
    ),
    "a value removed": (
        BEFORE | {"rate": "optimizer.lr=1e-2"},
        SEEDS,
        ["rate: 2 runs not compared any more and kept in rate/"],
    ),
    "the winner removed": (
        BEFORE | {"rate": "optimizer.lr=1e-1"},
        SEEDS,
        [
            "rate: its winner becomes the configuration before (it was optimizer.lr=0.01), "
            "2 runs not compared any more and kept in rate/",
            "drop: 4 of 6 new, 4 runs to be moved to superseded/drop, 2 there, its winner may "
            "change",
            "act: if drop stays with model.dropout_rate=0.0: 4 of 6 new, 4 runs to be moved to "
            "superseded/act, 2 there, its winner may change",
        ],
    ),
    "a phase inserted": (
        {"rate": RATE, "norm": "model.norm=batch,group", "drop": DROP, "act": ACT},
        SEEDS,
        [
            "norm: a new phase, 2 of 4 new, 2 there",
            "drop: if norm stays with the configuration before: as it is",
            "act: if norm stays with the configuration before: as it is",
        ],
    ),
    "a phase removed": (
        {"rate": RATE, "act": ACT},
        SEEDS,
        [
            "act: 4 of 6 new, 4 runs to be moved to superseded/act, 2 there, its winner may change",
            "drop: no phase any more; 4 runs kept in drop/",
        ],
    ),
    "the first phase removed": ({"drop": DROP, "act": ACT}, SEEDS, []),
    "a phase renamed": ({"lr": RATE, "drop": DROP, "act": ACT}, SEEDS, ["lr: 6 come from rate"]),
    "phases swapped": ({"drop": DROP, "rate": RATE, "act": ACT}, SEEDS, []),
    "seeds added": (
        BEFORE,
        [0, 2, 4],
        [
            "rate: 3 of 9 new, 6 there, its winner may change",
            "drop: if rate stays with optimizer.lr=0.01: 2 of 9 new, 7 there, its winner may "
            "change",
            "act: if drop stays with model.dropout_rate=0.0: 2 of 9 new, 7 there, its winner may "
            "change",
        ],
    ),
    "seeds removed": (
        BEFORE,
        [0],
        [
            "rate: 3 runs not compared any more and kept in rate/",
            "drop: 2 runs not compared any more and kept in drop/",
            "act: 2 runs not compared any more and kept in act/",
        ],
    ),
    "from": (
        BEFORE | {"act": {"from": "rate", "overrides": ACT}},
        SEEDS,
        ["act: 4 of 6 new, 4 runs to be moved to superseded/act, 2 there, its winner may change"],
    ),
    "per": (
        {"act": ACT, "rate": {"per": "model.activation", "overrides": RATE}},
        SEEDS,
        [],
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_what_was_told_happens_and_nothing_is_lost(app: Path, case: str) -> None:
    phases, seeds, expected = CASES[case]
    before = computed(app)
    write_study(app, phases, seeds=seeds)
    planned = study(app, "study.dry_run=true")
    assert planned.returncode == 0, planned.stderr
    assert computed(app) == before
    lines = told(planned)
    assert lines == expected or (not expected and lines)
    killed = forks.engine().run(
        ["killing.py", "--config-dir", "extra", "study=toy", "study.report=false"],
        app,
        {"RENAMES": "1", "KILL_AT": "2"},
    )
    assert killed.returncode in (0, -9), killed.stderr
    done = study(app)
    assert done.returncode == 0, done.stderr
    after = dict(computed(app))
    assert {print_ for print_, _ in before} <= set(after), "a run was lost"
    assert len(computed(app)) == len(after), "something was computed twice"
    fresh = study(app, "hydra.sweep.dir=fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert decisions(app / "out") == decisions(app / "fresh")
    assert not told(study(app, "study.dry_run=true"))


@pytest.mark.slow
def test_what_goes_on_is_no_change(app: Path) -> None:
    assert not told(study(app, "study.dry_run=true"))
    shutil.rmtree(app / "out")
    assert study(app, KILL_AT="30").returncode == -9
    assert journal(app).phases[1].status == "running"
    assert not told(study(app, "study.dry_run=true"))


@pytest.mark.slow
def test_other_settings_are_refused_also_where_phases_have_moved(app: Path) -> None:
    write_study(app, {"drop": DROP, "rate": RATE}, seeds=SEEDS)
    before = computed(app)
    file = app / "extra" / "study" / "toy.yaml"
    file.write_text(file.read_text().replace("max_epochs: 4", "max_epochs: 5"))
    done = study(app)
    assert done.returncode == 2
    assert "holds a run of other settings (" in done.stderr
    assert "trainer.max_epochs=4 there, 5 now" in done.stderr
    assert computed(app) == before


@pytest.mark.slow
def test_a_tree_without_a_phase_that_ended_it(app: Path) -> None:
    """A last phase more, and which one the study ends with may change."""
    write_study(
        app, BEFORE | {"fresh": {"from": "start", "overrides": "model.norm=group"}}, seeds=SEEDS
    )
    planned = study(app, "study.dry_run=true")
    assert told(planned) == ["fresh: a new phase, 2 of 4 new, 2 there"]
    assert study(app).returncode == 0
    assert journal(app).last == "act"
