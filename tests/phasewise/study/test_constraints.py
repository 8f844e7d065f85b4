"""What a configuration must satisfy: parsing, judging, and what that has to do with who wins."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from phasewise.records.record import RunRecord
from phasewise.study.constraints import (
    NameCheck,
    parse_requirement,
    unknown_name,
    violations,
)
from phasewise.study.decision import decide
from phasewise.study.journal import Candidate, Phase
from phasewise.study.undecided import explain_undecided

METRICS = {"val/mIoU": "max", "val/mAP": "max", "val/loss": "min"}


def run(score: float, status: str = "completed", seed: int = 0, **cost: float) -> RunRecord:
    goal = {"metric": "val/mIoU", "mode": "max", "value": score, "epoch": 1}
    best = {"val/mIoU": score, "val/mAP": score / 2}
    return RunRecord(
        Path("run"), "toy", "", [], seed, goal, status=status, best=best, cost=dict(cost)
    )


def phase(count: int, require: list[str], incumbent: int | None = 0) -> Phase:
    goal = {"metric": "val/mIoU", "mode": "max"}
    one = Phase("one", "grid", goal, [0], require=require, incumbent=incumbent)
    one.candidates = [Candidate([f"a={row}"] if row else []) for row in range(count)]
    return one


@pytest.mark.parametrize(
    ("text", "holds", "violates"),
    [
        ("cost.parameters <= 5e6", 5e6, 5e6 + 1),
        ("val/mAP>=.1", 0.1, 0.0999),
        (" cost.peak_memory_mb < 8000 ", 7999, 8000),
        ("val/loss > -1", 0, -1),
    ],
)
def test_a_requirement_is_a_name_an_operator_and_a_number(
    text: str, holds: float, violates: float
) -> None:
    one = parse_requirement(text)
    assert one.holds(holds)
    assert not one.holds(violates)
    assert not one.holds(math.nan)
    assert parse_requirement(one.text) == one


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cost.parameters", "must be NAME OPERATOR NUMBER"),
        ("0 <= val/mAP <= 1", "must be NAME OPERATOR NUMBER"),
        ("val/mAP == 1", "== is not one of <=, >=, <, >"),
        ("val/mAP => 1", "=> is not one of"),
        ("val/mAP >= high", "high is no finite number"),
        ("val/mAP >= nan", "nan is no finite number"),
        ("cost.parameters <= 5M", "5M is no finite number"),
        ("5e6 >= cost.parameters", "cost.parameters is no finite number; the name comes first"),
    ],
)
def test_what_cannot_be_parsed(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        parse_requirement(text)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("val/mAP", ""),
        ("val/IoU/cat", ""),
        ("cost.parameters", ""),
        ("val/mAPP", "no such metric; did you mean val/mAP?"),
        ("cost.parameter", "no such cost; did you mean cost.parameters?"),
        ("cost.money", "no such cost; there are parameters, "),
        ("test/mAP", "test data choose nothing"),
        ("size", "no such metric; there are val/mIoU, val/mAP, val/loss, cost.parameters"),
    ],
)
def test_names_are_those_of_metrics_and_costs(name: str, told: str) -> None:
    found = unknown_name(name, METRICS)
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_the_mean_over_seeds_is_judged() -> None:
    runs = [run(0.5, parameters=90, seconds=10), run(0.7, seed=1, parameters=90, seconds=20)]
    assert violations(["cost.seconds <= 15", "val/mIoU >= 0.6"], runs) == []
    found = violations(["cost.seconds < 15", "val/mAP >= 0.31", "cost.parameters <= 80"], runs)
    assert found == [
        "cost.seconds < 15 (is 15)",
        "val/mAP >= 0.31 (is 0.3)",
        "cost.parameters <= 80 (is 90)",
    ]
    large = [run(0.5, parameters=11_181_642)]
    assert violations(["cost.parameters <= 5e6"], large) == [
        "cost.parameters <= 5e6 (is 11,181,642)"
    ]
    close = [run(0.0999999)]
    assert violations(["val/mIoU >= 0.1"], close) == ["val/mIoU >= 0.1 (is 0.0999999)"]


def test_what_no_run_has_recorded_is_not_satisfied() -> None:
    assert violations(["cost.peak_memory_mb < 8000"], [run(0.5)]) == [
        "cost.peak_memory_mb < 8000 (not recorded)"
    ]
    assert violations(["cost.seconds <= 15"], [run(0.5), run(0.5, seconds=3)]) == []
    assert violations(["cost.seconds <= 1"], [run(0.5, "failed", seconds=3)]) == []
    assert violations(["cost.seconds <= 1"], []) == []


def test_an_infeasible_candidate_never_wins() -> None:
    one = phase(3, ["cost.parameters <= 100"])
    decide(one, [{0: run(s, parameters=p)} for s, p in ((0.5, 90), (0.9, 200), (0.6, 100))])
    assert (one.winner, one.verdict) == (2, "adopted")
    assert [bool(it.infeasible) for it in one.candidates] == [False, True, False]
    assert one.reason == "0.6 against 0.5 of the incumbent; 1 infeasible"


@pytest.mark.parametrize("significant", [False, True])
def test_an_infeasible_incumbent_is_replaced(significant: bool) -> None:
    one = phase(3, ["cost.parameters <= 100"])
    runs = [{0: run(s, parameters=p)} for s, p in ((0.9, 200), (0.5, 90), (0.6, 90))]
    decide(one, runs, significant=significant)
    assert (one.winner, one.verdict) == (2, "adopted")
    assert one.reason == (
        "best mean 0.6; the incumbent is infeasible: cost.parameters <= 100 (is 200)"
    )


def test_a_feasible_phase_decides_as_without_requirements() -> None:
    runs = [{0: run(s, parameters=90)} for s in (0.5, 0.6)]
    with_one, without = phase(2, ["cost.parameters <= 100"]), phase(2, [])
    decide(with_one, runs)
    decide(without, runs)
    assert with_one.reason == without.reason
    assert with_one.winner == without.winner == 1


def test_nothing_feasible_ends_the_study() -> None:
    one = phase(3, ["cost.parameters <= 10", "val/mIoU >= 0.8"])
    runs = [run(0.9, parameters=200), run(0.5, parameters=90), run(0.6, "failed")]
    decide(one, [{0: each} for each in runs])
    assert (one.winner, one.verdict) == (None, "undecided")
    assert one.reason == "no candidate is feasible (1 have no result)"
    assert explain_undecided(one, runs).splitlines() == [
        "the study ends with its phase one: no candidate is feasible (1 have no result)",
        "  the configuration before: cost.parameters <= 10 (is 200)",
        "  a=1: cost.parameters <= 10 (is 90), val/mIoU >= 0.8 (is 0.5)",
        "no later phase and no test was run",
        "the same command with another study.require decides anew, and trains nothing again",
    ]


def test_nothing_to_test_a_gain_against_is_no_matter_of_constraints() -> None:
    one = phase(3, ["cost.parameters <= 100"])
    runs = [run(math.nan, parameters=9), run(0.9, parameters=200), run(0.6, parameters=90)]
    decide(one, [{0: each} for each in runs], significant=True)
    assert one.winner is None
    assert "no gain can be tested" in one.reason


def test_a_name_that_no_run_records_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    one = phase(1, ["val/mPA >= 0.1", "val/mAP >= 0.1", "cost.parameters <= 3"])
    one.objectives = [one.objective, {"metric": "val/speed", "mode": "max"}]
    check = NameCheck()
    check.note(None, one)
    check.note(run(0.5, "failed"), one)
    assert not caplog.messages
    for _ in range(2):
        check.note(run(0.5, parameters=1), one)
    assert caplog.messages == [
        "val/speed: run has not recorded it; there are val/mIoU, val/mAP, cost.parameters",
        "val/mPA: run has not recorded it; did you mean val/mAP?",
    ]
