"""Which phase a study ends with, where several have none after them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from phasewise.records.record import RunRecord
from phasewise.study.journal import Phase
from phasewise.study.leaves import choose_leaf, value_by

MAX = {"metric": "val/mIoU", "mode": "max"}
MIN = {"metric": "val/loss", "mode": "min"}


@pytest.mark.parametrize(
    ("values", "objective", "name", "reason"),
    [
        ({"a": {0: 0.5}}, MAX, "a", ""),
        ({"a": {0: 0.5}, "b": {0: 0.6}}, MAX, "b", "val/mIoU 0.6 against 0.5 of a"),
        ({"a": {0: 0.5}, "b": {0: 0.6}}, MIN, "a", "val/loss 0.5 against 0.6 of b"),
        (
            {"a": {0: 0.5}, "b": {0: 0.5}},
            MAX,
            "a",
            "val/mIoU 0.5 against the same as b, the earlier of these",
        ),
        # means over other seeds do not compare: seed 1 of b, which is luck, does not count
        (
            {"a": {0: 0.5}, "b": {0: 0.4, 1: 0.9}},
            MAX,
            "a",
            "val/mIoU 0.5 against 0.4 of b over the seeds that all have (0)",
        ),
        ({"a": {0: 0.5}, "b": {1: 0.9}}, MAX, "b", "val/mIoU 0.9 against 0.5 of a"),
        ({"a": {0: math.nan}, "b": {0: -2.0}}, MAX, "b", "the only one with a result by val/mIoU"),
        (
            {"a": {}, "b": {0: math.inf}},
            MAX,
            "a",
            "nothing has a result by val/mIoU, and a is the first",
        ),
    ],
)
def test_the_best_mean_wins(
    values: dict[str, dict[int, float]], objective: dict[str, str], name: str, reason: str
) -> None:
    assert choose_leaf(values, objective) == (name, reason)


def goal(objective: dict[str, str]) -> Phase:
    return Phase("", "grid", objective, [])


def test_a_phase_with_another_metric_is_judged_by_the_studys(tmp_path: Path) -> None:
    record = RunRecord.start(
        tmp_path, task="x", fingerprint="0", overrides=[], seed=0, metric="val/loss", mode="min"
    )
    assert math.isnan(value_by(record, goal(MAX)))
    record.finish("completed", value=0.3, epoch=1, best={"val/loss": 0.3, "val/mIoU": 0.7})
    assert value_by(record, goal(MIN)) == 0.3
    assert value_by(record, goal(MAX)) == 0.7
    assert math.isnan(value_by(record, goal({"metric": "val/dice", "mode": "max"})))
