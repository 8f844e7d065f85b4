"""How ``study=multitask`` chooses, on the figures that its authors have published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from phasewise.project import CONF
from phasewise.records.record import RunRecord
from phasewise.study.decision import decide
from phasewise.study.goals import StatedGoals, resolve_goals
from phasewise.study.journal import Candidate, Phase

FIRST = {"metric": "val/mIoU", "mode": "max"}
KEPT = "optimizer.lr=1e-3"
CHOSEN = {
    "architecture": "model.backbone=resnet34 model.segmentation_head=fcn",
    "activation": "model.activation=gelu",
    "init_scheme": "model.init_scheme=kaiming",
    "learning_rate": KEPT,
}
"""Their final configuration."""

BEFORE = {
    "architecture": "model.backbone=resnet34 model.segmentation_head=unet",
    "activation": "model.activation=relu",
    "init_scheme": "model.init_scheme=kaiming",
    "learning_rate": KEPT,
}
"""What each of their phases started from."""


def study() -> dict[str, Any]:
    section: dict[str, Any] = yaml.safe_load((CONF / "study/multitask.yaml").read_text())["study"]
    return section


def chosen(name: str, choose: Any) -> str:
    """The winner of a phase by their figures."""
    stated = study()
    goals = StatedGoals(objectives=stated["objectives"], choose=choose)
    found = resolve_goals(goals, {}, FIRST, {"val/mIoU": "max", "val/mAP": "max"})
    published = stated["published"][name]
    phase = Phase(name, "grid", FIRST, [0], incumbent=[*published].index(BEFORE[name]))
    found.give(phase, None, [])
    phase.candidates = [Candidate(words.split()) for words in published]
    runs = []
    for values in published.values():
        best = {f"val/{metric}": value for metric, value in values.items()}
        goal = FIRST | {"value": values["mIoU"], "epoch": 1}
        run = RunRecord(Path(), "multitask", "", [], 0, goal, status="completed", best=best)
        runs.append({0: run})
    decide(phase, runs)
    assert phase.winner is not None
    return " ".join(phase.candidates[phase.winner].overrides)


@pytest.mark.parametrize("name", CHOSEN)
def test_it_chooses_what_they_chose(name: str) -> None:
    assert chosen(name, study()["choose"]) == CHOSEN[name]


@pytest.mark.parametrize(
    ("name", "choose", "other"),
    [
        ("learning_rate", {"guarded": {"tolerance": 0.01}}, "optimizer.lr=1e-2"),
        ("init_scheme", {"weighted": {"val/mIoU": 1, "val/mAP": 1}}, "model.init_scheme=xavier"),
    ],
)
def test_other_ways_would_have_chosen_another(name: str, choose: Any, other: str) -> None:
    assert chosen(name, choose) == other
