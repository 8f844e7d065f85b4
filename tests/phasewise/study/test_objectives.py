"""Several objectives: the number that ranks runs, guards, the Pareto front and its knee."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from phasewise.records.record import RunRecord
from phasewise.study.journal import Phase
from phasewise.study.objectives import scalar, scalar_at, scalar_of
from phasewise.study.selection import value_at

NAN = math.nan
MIOU, MAP, LOSS = "val/mIoU", "val/mAP", "val/loss"


def phase(choose: dict[str, dict[str, float]], mode: str = "max", **others: str) -> Phase:
    """Of the objective mIoU, and others with their modes."""
    goals = [
        {"metric": MIOU, "mode": mode},
        *({"metric": f"val/{name}", "mode": own} for name, own in others.items()),
    ]
    return Phase("one", "grid", goals[0], [0], objectives=goals if others else [], choose=choose)


def run(status: str = "completed", **metrics: float | None) -> RunRecord:
    best = {f"val/{name}": value for name, value in metrics.items()}
    goal = {"metric": MIOU, "mode": "max", "value": best[MIOU], "epoch": 3}
    return RunRecord(Path("run"), "toy", "", [], 0, goal, status=status, best=best)


def test_a_weighted_mean_is_of_raw_values() -> None:
    both = phase({"weighted": {MIOU: 1, MAP: 3}}, mAP="max")
    assert scalar(both, {MIOU: 0.2, MAP: 0.6}) == pytest.approx((0.2 + 3 * 0.6) / 4)
    loss = phase({"weighted": {MIOU: 2, LOSS: 0.5}}, loss="min")
    assert scalar(loss, {MIOU: 0.2, LOSS: 1.6}) == pytest.approx((2 * 0.2 - 0.5 * 1.6) / 2.5)
    lowest = phase({"weighted": {MIOU: 1, MAP: 1}}, "min", mAP="max")  # less of it is better
    assert scalar(lowest, {MIOU: 0.2, MAP: 0.6}) == pytest.approx(-0.2)
    assert math.isnan(scalar(both, {MIOU: 0.2}))
    assert math.isnan(scalar(both, {MIOU: 0.2, MAP: None}))


@pytest.mark.parametrize("choose", [{}, {"pareto": {}}, {"guarded": {MAP: 0.01}}])
def test_else_the_first_objective_ranks_runs(choose: dict[str, dict[str, float]]) -> None:
    one = phase(choose, mAP="max") if choose else phase({})
    assert scalar(one, {MIOU: 0.2, MAP: 0.6}) == 0.2
    history = [{"epoch": e, MIOU: v, MAP: 1 - v} for e, v in ((1, 0.3), (2, 0.5), (3, 0.9))]
    assert scalar_at(one, [history], 2) == value_at([history], 2, one.objective) == 0.5


def test_a_run_counts_at_the_best_epoch_of_the_first_objective() -> None:
    both = phase({"weighted": {MIOU: 1, MAP: 1}}, mAP="max")
    assert scalar_of(both, run(mIoU=0.4, mAP=0.2)) == pytest.approx(0.3)
    assert math.isnan(scalar_of(both, run("paused", mIoU=0.4, mAP=0.2)))
    assert math.isnan(scalar_of(both, run(mIoU=None, mAP=0.2)))
    rows = [(1, 0.3, 0.9), (2, 0.5, 0.1), (3, NAN, 0.8), (4, 0.9, 0.7)]
    history = [dict(zip(("epoch", MIOU, MAP), row, strict=True)) for row in rows]
    other = [{"epoch": 1, MIOU: 0.1, MAP: 0.3}]
    assert scalar_at(both, [history, other], 3) == pytest.approx(((0.5 + 0.1) / 2 + 0.2) / 2)
    assert math.isnan(scalar_at(both, [history, []], 3))
