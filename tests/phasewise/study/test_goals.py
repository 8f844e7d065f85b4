"""What a file may say about several objectives, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from phasewise.config.help import problems_of
from phasewise.errors import UserError
from phasewise.study.goals import Goals, StatedGoals, goal_problems, resolve_goals, saved_goals
from phasewise.study.journal import Phase

MIOU, MAP, LOSS = "val/mIoU", "val/mAP", "val/loss"
FIRST = {"metric": MIOU, "mode": "max"}
METRICS = {MIOU: "max", MAP: "max", LOSS: "min"}
BOTH = [MIOU, MAP]


def problems(
    stated: Mapping[str, Any],
    *,
    is_sweep: bool = False,
    significant: bool = False,
    metrics: Mapping[str, str] | None = METRICS,
) -> list[str]:
    """All that is told of a section, in order."""
    try:
        found = StatedGoals.model_validate(dict(stated))
    except ValidationError as error:
        return [str(one) for one in problems_of(error, dict(stated))]
    requirements = {"study.require": found.require}
    told = goal_problems(found, requirements, is_sweep=is_sweep, significant=significant)
    if first := [str(one) for one in told]:
        return first
    try:
        resolve_goals(found, requirements, FIRST, metrics, [MIOU, MAP])
    except UserError as error:
        return [str(one) for one in error.problems]
    return []


def goals(stated: Mapping[str, Any], metrics: Mapping[str, str] | None = METRICS) -> Goals:
    assert problems(stated, metrics=metrics) == []
    found = StatedGoals.model_validate(dict(stated))
    return resolve_goals(found, {"study.require": found.require}, FIRST, metrics)


def test_what_a_phase_gets() -> None:
    found = goals(
        {
            "objectives": [MIOU, MAP, LOSS],
            "choose": {"guarded": {"tolerance": 0.01}},
            "require": ["val/mAP >= 0.1"],
        }
    )
    one = Phase("one", "grid", FIRST, [0])
    found.give(one, None, ["cost.parameters<=5e6", "val/mAP >= 0.1"])
    assert one.objectives == [{"metric": metric, "mode": mode} for metric, mode in METRICS.items()]
    assert one.choose == {"guarded": {MAP: 0.01, LOSS: 0.01}}
    assert one.require == ["val/mAP >= 0.1", "cost.parameters<=5e6"]
    own = Phase("own", "grid", {"metric": MAP, "mode": "max"}, [0])
    found.give(own, MAP, [])  # its own metric alone
    assert (own.objectives, own.choose, own.require) == ([], {}, ["val/mAP >= 0.1"])


@pytest.mark.parametrize(
    ("choose", "wanted"),
    [
        ("pareto", {"pareto": {}}),
        ({"weighted": {MIOU: 1, MAP: 2.5}}, {"weighted": {MIOU: 1, MAP: 2.5}}),
        ({"guarded": {"tolerance": {MAP: 0.2}}}, {"guarded": {MAP: 0.2}}),
        ({"weighted": {MIOU: 1, MAP: 2}, "guarded": None}, {"weighted": {MIOU: 1, MAP: 2}}),
    ],
)
def test_ways_of_choosing(choose: Any, wanted: Any) -> None:
    assert goals({"objectives": BOTH, "choose": choose}).choose == wanted


def test_modes_where_the_task_does_not_tell_them() -> None:
    speed = {"metric": "val/speed", "mode": "min"}
    found = goals({"objectives": [MIOU, speed], "choose": "pareto"}, metrics=None)
    assert found.objectives == [FIRST, speed]
    told = problems({"objectives": [MIOU, "val/speed"], "choose": "pareto"}, metrics=None)
    assert told == [
        "study.objectives.1=val/speed: its mode must be given, e.g. {metric: val/speed, mode: max}"
    ]
    assert problems({"require": ["speed >= 10"]}, metrics=None) == []


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"objectives": BOTH}, "study.choose: must say how the objectives choose: {weighted: {"),
        ({"choose": "pareto"}, "study.choose: needs study.objectives of at least two metrics"),
        ({"objectives": [MIOU], "choose": "pareto"}, "study.choose: needs study.objectives of at"),
        ({"objectives": BOTH, "choose": "knee"}, "choose=knee: must be {weighted: {"),
        ({"objectives": BOTH, "choose": {"weigted": {}}}, "did you mean weighted?"),
        (
            {"objectives": BOTH, "choose": {"weighted": {MIOU: 1}, "guarded": {"tolerance": 1}}},
            "choose: one of weighted, guarded, pareto must be given, not weighted and guarded; "
            "null takes one back",
        ),
        (
            {"objectives": BOTH, "choose": {"weighted": {MIOU: 1}}},
            "study.choose.weighted: must name val/mAP too",
        ),
        (
            {"objectives": BOTH, "choose": {"weighted": {MIOU: 1, MAP: 0}}},
            "a weight must be a number > 0",
        ),
        (
            {"objectives": BOTH, "choose": {"weighted": {MIOU: 1, MAP: 1, "val/mPA": 1}}},
            "study.choose.weighted.val/mPA: not one of val/mIoU, val/mAP; did you mean",
        ),
        (
            {"objectives": BOTH, "choose": {"guarded": {"tolerance": -1}}},
            "tolerance=-1: must be a number >= 0, or such numbers by metric",
        ),
        (
            {"objectives": BOTH, "choose": {"guarded": {"tolerance": {MIOU: 1, MAP: 1}}}},
            "study.choose.guarded.tolerance.val/mIoU: not one of val/mAP",
        ),
        ({"objectives": [MIOU, MIOU], "choose": "pareto"}, "val/mIoU stands there twice"),
        (
            {"objectives": [MAP, MIOU], "choose": "pareto"},
            "study.objectives.0=val/mAP: the first one must be objective.metric, val/mIoU, whose",
        ),
        (
            {"objectives": [MIOU, "val/mPA"], "choose": "pareto"},
            "study.objectives.1=val/mPA: not one of val/mIoU, val/mAP, val/loss; did you mean",
        ),
        (
            {"objectives": [MIOU, {"metric": LOSS, "mode": "max"}], "choose": "pareto"},
            "study.objectives.1=val/loss: it is better when lower; must be min",
        ),
        ({"objectives": [MIOU, {"metrik": MAP}], "choose": "pareto"}, "did you mean metric?"),
        ({"require": "val/mAP >= 0.1"}, "must be a list of texts, e.g. ['cost.parameters <= 5e6']"),
        ({"require": ["val/mAP = 0.1"]}, "study.require: val/mAP = 0.1: = is not one of <=, >=,"),
        (
            {"require": ["val/mPA >= 0.1"]},
            "study.require: val/mPA >= 0.1: no such metric; did you mean val/mAP?",
        ),
        ({"require": ["val/mAP >= 10"]}, "val/mAP is a fraction, within 0 and 1"),
    ],
)
def test_what_is_refused(stated: Mapping[str, Any], told: str) -> None:
    (found,) = problems(stated)
    assert told in found


def test_what_does_not_go_with_the_rest_of_a_study() -> None:
    guarded = {"objectives": BOTH, "choose": {"guarded": {"tolerance": 0}}}
    pareto = {"objectives": BOTH, "choose": "pareto"}
    (found,) = problems(guarded, is_sweep=True)
    assert found.startswith("study.choose.guarded: guards what the incumbent has, and a sweep")
    assert problems(pareto, is_sweep=True) == []
    (found,) = problems(pareto, significant=True)
    assert found.startswith("study.adopt=significant: goes with study.choose=guarded or weighted")
    assert problems(guarded, significant=True) == []


def test_goals_by_what_was_saved_beside_runs() -> None:
    stated = {"objectives": [MIOU, MAP, LOSS], "choose": "pareto", "require": ["val/mAP>=.1"]}
    found = saved_goals({"study": stated}, FIRST)
    assert found == goals(stated)
    assert saved_goals({"study": stated}, {"metric": MAP, "mode": "max"}).objectives == []
    assert saved_goals({"study": stated | {"choose": "knee"}}, FIRST) == Goals()
    assert saved_goals({"study": stated | {"objectives": 3}}, FIRST) == Goals()
    assert saved_goals({"study": stated | {"choose": {"weighted": {MIOU: 1}}}}, FIRST).choose == {}
    assert saved_goals({}, FIRST) == Goals()
