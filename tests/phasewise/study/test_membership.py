"""What records say of their runs' parts in a study, and studies that are read from that alone."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import read_record
from phasewise.report.view import StudyView
from phasewise.study.journal import JOURNAL
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult
from tests.phasewise.study.test_study import app
from tests.phasewise.study.whole import call, calls, study, write_study

pytestmark = pytest.mark.slow

__all__ = ["app"]

PHASES: dict[str, Any] = {
    "rate": "optimizer.lr=1e-1,1e-2,1e-3",
    "activation": "model.activation=relu,gelu,silu",
    "zeros": {"overrides": "model.dropout_rate=0,.2,.4", "halving": {"epochs": 1}},
    "again": {"overrides": "optimizer.lr=1e-2,1e-1 model.activation=gelu,relu"},
    "longer": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=6"}},
}


def places(app: Path, name: str) -> list[tuple[str, int, str]]:
    record = read_record(app / "out" / name)
    assert record is not None and record.study["name"] == "toy"
    return [(one["phase"], one["number"], one["role"]) for one in record.study["places"]]


def told(result: StudyResult) -> list[tuple[Any, ...]]:
    """Phases in order, what each compared and chose, where its runs lie."""
    found = []
    for phase in result.phases:
        plan = phase.plan
        runs = [[trial.directory for trial in one.plan.trials] for one in phase.candidates]
        chosen = [None if i is None else runs[i] for i in (plan.incumbent, plan.winner)]
        order = runs if plan.kind == "test" else sorted(runs)
        stopped = sorted(one.plan.epochs or 0 for one in phase.candidates)
        keys = sorted(phase.keys) if plan.kind != "test" else []
        found.append((plan.name, plan.kind, order, chosen, plan.verdict, stopped, keys))
    return found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": [0, 1]}, []),
        ({"seeds": [0, 1, 2], "adopt": "significant", "refit": True}, []),
        ({"seeds": [0, 1, 2]}, ["study.adopt=significant", "study.refit=true", "budget=tiny"]),
    ],
)
def test_a_copy_without_journal_and_times_is_the_same_study(
    app: Path, settings: dict[str, Any], words: list[str]
) -> None:
    few = len(settings["seeds"]) > 2
    phases = {key: PHASES[key] for key in [*PHASES][:2]} if few else PHASES
    if words:  # a phase whose candidates are all refused but the incumbent
        phases |= {"patience": "scheduler.patience=2,4", "schedule": "scheduler=plateau,cosine"}
        phases = {key: phases[key] for key in ("rate", "schedule", "patience", "activation")}
    write_study(app, phases, **settings, budgets={"tiny": "trainer.max_epochs=3"})
    done = study(app, *words)
    assert done.returncode == 0, done.stderr
    whole = read_study(app / "out")
    copy = app / "copy"
    shutil.copytree(app / "out", copy)
    (copy / JOURNAL).unlink()
    dice = random.Random(0)
    for path in sorted(copy.rglob("*")):
        os.utime(path, (dice.uniform(1e9, 1.6e9),) * 2)
    rebuilt = read_study(copy)
    found, expected = ({one[0]: one for one in told(result)} for result in (rebuilt, whole))
    assert [*found] == [*expected]
    if words:  # nothing is left of what was refused
        assert found.pop("patience")[3:5] == expected.pop("patience")[3:5]
    assert found == expected
    assert rebuilt.plan.status == "completed"
    for key in ("name", "budget", "adopt", "refit"):
        assert getattr(rebuilt.plan, key) == getattr(whole.plan, key)
    before, after = StudyView(whole), StudyView(rebuilt)
    for one, other in ((before.final, after.final), (before.start, after.start)):
        assert one is not None and other is not None
        assert one.mean == pytest.approx(other.mean, nan_ok=True)
        assert [r.test for r in one.records] == [r.test for r in other.records]
        assert [r.directory.name for r in one.records] == [r.directory.name for r in other.records]


def test_a_run_that_several_phases_use_has_several_places(app: Path) -> None:
    phases = {key: PHASES[key] for key in ("rate", "activation")}
    write_study(app, phases)
    assert study(app).returncode == 0
    winner = "activation/model.activation=gelu,seed=0"
    assert places(app, winner) == [("activation", 2, "candidate"), ("test", 3, "final")]
    assert places(app, "rate/optimizer.lr=0.01,seed=0") == [
        ("rate", 1, "candidate"),
        ("activation", 2, "incumbent"),
    ]
    assert places(app, "rate/optimizer.lr=0.001,seed=0") == [
        ("rate", 1, "incumbent"),
        ("test", 3, "start"),
    ]
    record = read_record(app / "out" / winner)
    assert record is not None
    assert not any("study." in word for word in record.overrides)
    # another phase wins at the end: what an earlier call said of the final one is taken back
    write_study(app, phases | {"dropout": "model.dropout_rate=0,.2"}, seeds=[1])
    assert study(app, "hydra.sweep.dir=out").returncode == 0
    write_study(app, phases | {"dropout": "model.dropout_rate=0"}, seeds=[0])
    assert study(app).returncode == 0
    assert ("test", 3, "final") not in places(app, winner)
    assert ("dropout", 3, "incumbent") in places(app, winner)
    assert set(calls(app).values()) == {"x"}


def test_a_trial_without_a_record_is_placed_by_its_config(app: Path) -> None:
    write_study(app, {"b": "optimizer.lr=1e-2,1e-3", "a": "model.activation=gelu,relu"})
    assert study(app).returncode == 0
    (app / "out" / JOURNAL).unlink()
    (app / "out/b/optimizer.lr=0.01,seed=0/record.json").unlink()
    result = read_study(app / "out")
    assert [phase.plan.name for phase in result.phases] == ["b", "a", "test"]
    (lost,) = [one for one in result.phases[0].candidates if not one.values]
    assert lost.settings == {"optimizer.lr": 0.01}


def test_records_of_a_plain_sweep(app: Path) -> None:
    words = ("-m", "task=multitask", "optimizer.lr=1e-2,1e-3")
    done = call(app, *words, "hydra.sweep.dir=out", "study.report=false")
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text())["study"] for path in app.glob("out/*/record.json")]
    places = [{"phase": "", "number": 1, "role": role} for role in ("candidate", "incumbent")]
    assert sorted(found, key=str) == [{"name": "sweep", "places": [place]} for place in places]
