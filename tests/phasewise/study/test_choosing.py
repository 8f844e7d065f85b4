"""Studies with several objectives and constraints, from what is typed to what is left behind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from phasewise.study.journal import Phase
from phasewise.study.read import read_study
from tests.phasewise.study.whole import (
    calls,
    journal,
    make_app,
    results,
    study,
    winners,
    write_study,
)

pytestmark = pytest.mark.slow

PHASES = {
    "rate": "optimizer.lr=3e-3,1e-2",  # the mIoU is best at 1e-2, the mAP at 1e-3, the start
    "activation": "model.activation=relu,gelu,silu",  # gelu is best, and large
    "longer": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=6"}},
}
BOTH = {"objectives": ["val/mIoU", "val/mAP"]}
GUARDED = {"choose": {"guarded": {"tolerance": 0.06}}}
SMALL = {"require": ["cost.parameters <= 5e3"]}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def rows(app: Path, phase: str) -> list[dict[str, str]]:
    with (app / "out" / phase / "sweep.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_guards_and_constraints_decide_from_the_records_alone(app: Path) -> None:
    write_study(app, PHASES, **BOTH, **GUARDED, **SMALL)
    planned = study(app, "study.dry_run=true").stdout
    assert "study toy: val/mIoU (max), val/mAP (max), in out\n" in planned
    assert "chosen by val/mIoU, where val/mAP falls by at most 0.06\n" in planned
    assert "requires cost.parameters <= 5e3\n" in planned
    stopped = study(app, KILL_AT="9")
    assert stopped.returncode != 0
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate, activation, longer, test = journal(app).phases
    assert winners(app)["rate"] == ["optimizer.lr=0.003"]
    assert [bool(one.fallen) for one in rate.candidates] == [False, True, False]
    assert "optimizer.lr=0.01 falls too far: val/mAP 0.3 against 0.4 of the inc" in done.stdout
    assert winners(app)["activation"] == ["model.activation=silu"]
    violated = ["cost.parameters <= 5e3 (is 12,000)"]
    assert [one.infeasible for one in activation.candidates] == [[], violated, [], []]
    assert f"model.activation=gelu is infeasible: {violated[0]}" in done.stdout
    assert [(row["status"], row["violates"]) for row in rows(app, "activation")] == [
        ("completed", ""),
        ("infeasible", violated[0]),
        ("completed", ""),
        ("completed", ""),
    ]
    tried = [word for one in longer.candidates for word in one.overrides]
    assert "model.activation=gelu" not in tried  # the second best by the mIoU
    assert "optimizer.lr=0.01" not in tried
    assert test.objectives == [{"metric": f"val/{name}", "mode": "max"} for name in ("mIoU", "mAP")]
    assert "test/mIoU 0.4466 (1 seed), test/mAP 0.3523 (1 seed)\n" in done.stdout
    before = results(app)
    assert study(app).returncode == 0
    assert results(app) == before
    assert {*calls(app).values()} <= {"x", "xx"}
    (app / "out/study.json").unlink()
    rebuilt = read_study(app / "out").plan.phases
    assert [one.reason for one in rebuilt] == [
        one.reason for one in (rate, activation, longer, test)
    ]


def test_another_way_of_choosing_trains_nothing_again(app: Path) -> None:
    write_study(app, {"rate": PHASES["rate"]}, **BOTH, **GUARDED)
    assert study(app, "test=false").returncode == 0
    trained = calls(app)

    def chosen(choose: str) -> Phase:
        done = study(app, f"++study.choose={choose}", "test=false")
        assert done.returncode == 0, done.stderr
        return journal(app).phases[0]

    heavy = chosen("{weighted:{val/mIoU:1,val/mAP:9},guarded:null}")
    assert (heavy.winner, heavy.verdict) == (heavy.incumbent, "kept")
    first = {key: float(rows(app, "rate")[0][key]) for key in ("weighted", "val/mIoU", "val/mAP")}
    assert first["weighted"] == pytest.approx((first["val/mIoU"] + 9 * first["val/mAP"]) / 10)
    light = chosen("{weighted:{val/mIoU:9,val/mAP:1},guarded:null}")
    assert light.winner == 1
    front = chosen("pareto")
    assert (front.front, front.winner) == ([0, 1, 2], 2)
    assert [row["front"] for row in rows(app, "rate")] == ["yes", "yes", "yes"]
    assert calls(app) == trained


def test_a_study_ends_where_nothing_is_feasible(app: Path) -> None:
    write_study(app, PHASES, require=["val/mAP >= 0.9"])
    done = study(app)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert told[:2] == [
        "app.py: the study ends with its phase rate: no candidate is feasible",
        "  optimizer.lr=0.003: val/mAP >= 0.9 (is 0.3523)",
    ]
    assert "the same command with another study.require decides anew" in told[-1]
    assert [one.status for one in journal(app).phases] == ["completed", "pending", "pending"]
    looser = study(app, "study.require=['val/mAP >= 0.3']", "test=false")
    assert looser.returncode == 0, looser.stderr


def test_a_phase_may_have_requirements_of_its_own(app: Path) -> None:
    own = {"overrides": PHASES["activation"], "require": ["cost.parameters <= 2e3"]}
    write_study(app, {"rate": PHASES["rate"], "activation": own}, **SMALL)
    assert "(requires cost.parameters <= 2e3)" in study(app, "study.dry_run=true").stdout
    assert study(app, "test=false").returncode == 0
    rate, activation = journal(app).phases
    assert rate.require == SMALL["require"]
    assert [bool(one.infeasible) for one in activation.candidates] == [False, True, True, False]


@pytest.mark.parametrize(
    ("settings", "words", "told"),
    [
        ({"require": ["val/mAPP >= 1"]}, [], "no such metric; did you mean val/mAP?"),
        ({}, ["study.require=['val/mAP => 1']"], "=> is not one of <=, >=, <, >"),
        (
            {**BOTH, "choose": "pareto"},
            ["study.adopt=significant", "study.seeds=[0,1,2]"],
            "pareto",
        ),
        ({**BOTH}, [], "study.choose: must say how the objectives choose"),
    ],
)
def test_mistakes_are_refused_before_the_first_trial(
    app: Path, settings: dict[str, Any], words: list[str], told: str
) -> None:
    write_study(app, PHASES, **settings)
    done = study(app, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 2  # what is wrong, and where to look
    assert not (app / "out").exists()
