"""Several objectives: the number that ranks runs, guards, the Pareto front and its knee."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from phasewise.records.record import RunRecord
from phasewise.study.decision import decide
from phasewise.study.journal import Candidate, Phase
from phasewise.study.objectives import (
    knee_distances,
    non_dominated,
    scalar,
    scalar_at,
    scalar_of,
)
from phasewise.study.selection import Decision, select, value_at

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


def test_the_front_is_what_no_pair_comparison_rules_out() -> None:
    generator = random.Random(3)
    for size in (1, 2, 7, 40):
        for width in (2, 3):
            grid = [[generator.randint(0, 6) / 6 for _ in range(width)] for _ in range(size)]
            dominated = {
                i
                for i, one in enumerate(grid)
                for other in grid
                if all(a >= b for a, b in zip(other, one, strict=True)) and other != one
            }
            assert non_dominated(grid) == [i for i in range(size) if i not in dominated]


def test_distances_are_those_from_the_line_through_the_ends() -> None:
    """By the cross product, of the front scaled to the unit square."""
    front = [(0.9, 0.10), (0.8, 0.45), (0.75, 0.5), (0.3, 0.55)]
    scaled = [((x - 0.3) / 0.6, (y - 0.1) / 0.45) for x, y in front]
    (x1, y1), (x2, y2) = scaled[0], scaled[-1]
    length = math.hypot(x2 - x1, y2 - y1)
    wanted = [((y2 - y1) * (x1 - x) - (x2 - x1) * (y1 - y)) / length for x, y in scaled]
    assert knee_distances(front) == pytest.approx([abs(one) for one in wanted])
    assert knee_distances([(0.2, 0.3)]) == [0.0]
    assert knee_distances([(0.2, 0.3), (0.2, 0.3)]) == [0.0, 0.0]
    below = knee_distances([(1, 0), (0.4, 0.4), (0, 1)])  # bends inwards: the ends are farther out
    assert below == pytest.approx([0, -0.2 / math.sqrt(2), 0])
    assert knee_distances([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0.5)]) == pytest.approx(
        [0, 0, 0, 0.5 / math.sqrt(3)]
    )


def decided(
    scores: Sequence[Any],
    choose: dict[str, dict[str, float]],
    incumbent: int | None = 0,
    **settings: Any,
) -> Phase:
    """A phase whose candidates have (mIoU, mAP) with one seed, or with a list of seeds each."""
    one = phase(choose, mAP="max")
    one.incumbent = incumbent
    runs = []
    for row in scores:
        values = row if row and isinstance(row[0], Sequence) else [row]
        runs.append({seed: run(mIoU=a, mAP=b) for seed, (a, b) in enumerate(values)})
    one.seeds = [*range(max(map(len, runs)))]
    one.candidates = [Candidate([f"a={row}"]) for row in range(len(scores))]
    decide(one, runs, **settings)
    return one


FRONT = [(0.2, 0.2), (0.9, 0.1), (0.8, 0.45), (0.75, 0.5), (0.3, 0.55), (0.7, 0.4)]


def test_the_knee_of_the_front_is_adopted() -> None:
    found = decided(FRONT, {"pareto": {}})
    assert found.front == [1, 2, 3, 4]
    assert (found.winner, found.verdict) == (3, "adopted")
    assert found.reason == "knee of a Pareto front of 4 (val/mIoU 0.75, val/mAP 0.5)"
    assert decided(FRONT, {"pareto": {}}, incumbent=3).verdict == "kept"


def test_where_no_knee_is_farthest_the_incumbent_stays() -> None:
    two = [(0.5, 0.3), (0.4, 0.4), (0.3, 0.3)]
    for row in (0, 1):
        found = decided(two, {"pareto": {}}, incumbent=row)
        assert (found.winner, found.verdict, found.front) == (row, "kept", [0, 1])
    found = decided(two, {"pareto": {}}, incumbent=2)
    assert (found.winner, found.verdict) == (0, "adopted")  # the better one by the first
    assert "2 of a Pareto front of 2 lie as far out: best of them by the first" in found.reason
    assert decided(two, {"pareto": {}}, incumbent=None).winner == 0


def test_undefined_values_are_on_no_front() -> None:
    found = decided([(0.2, 0.2), (0.9, None), (None, 0.9), (0.3, 0.3)], {"pareto": {}})
    assert (found.winner, found.front) == (3, [3])
    found = decided([(0.2, None), (0.3, None)], {"pareto": {}})
    assert (found.winner, found.verdict) == (None, "undecided")
    some = [[(0.2, 0.2), (0.2, 0.2)], [(0.9, 0.9), (0.9, None)]]  # a mean of other seeds
    assert decided(some, {"pareto": {}}).winner == 0


GUARD = {"guarded": {MAP: 0.01}}


def test_the_first_objective_decides_among_those_that_keep_the_others() -> None:
    found = decided([(0.5, 0.4), (0.9, 0.38), (0.7, 0.39), (0.6, 0.5)], GUARD)
    assert (found.winner, found.verdict) == (2, "adopted")  # exactly at the tolerance
    assert [one.fallen for one in found.candidates] == [
        [],
        ["val/mAP 0.38 against 0.4 of the incumbent"],
        [],
        [],
    ]
    assert found.reason == (
        "0.7 against 0.5 of the incumbent; 1 left out for falling too far in another objective"
    )
    kept = decided([(0.5, 0.4), (0.9, 0.38)], GUARD)
    assert (kept.winner, kept.verdict) == (0, "kept")


def test_a_guard_has_the_mode_of_its_metric() -> None:
    one = phase({"guarded": {LOSS: 0.1}}, loss="min")
    one.incumbent, one.candidates = 0, [Candidate([]), Candidate(["a=1"]), Candidate(["a=2"])]
    runs = [{0: run(mIoU=a, loss=b)} for a, b in ((0.5, 1.0), (0.9, 1.2), (0.8, 1.05))]
    decide(one, runs)
    assert (one.winner, [bool(it.fallen) for it in one.candidates]) == (2, [False, True, False])


def test_a_guard_needs_an_incumbent_that_has_what_it_guards() -> None:
    assert decided([(0.5, None), (0.9, 0.1)], GUARD).winner == 1
    assert decided([(None, 0.5), (0.9, 0.1)], GUARD).winner == 1
    assert decided([(0.5, 0.4), (0.9, None)], GUARD).winner == 0  # nothing shows that it holds
    assert decided([(0.5, 0.4), (0.9, 0.1)], GUARD, incumbent=None).winner == 1


def test_guards_compare_the_seeds_that_both_have() -> None:
    both = [[(0.5, 0.2), (0.5, 0.4)], [(0.9, 0.2), (None, None)], [(0.4, 0.9), (0.4, 0.9)]]
    assert [one.fallen for one in decided(both, GUARD).candidates] == [[], [], []]


def test_significance_is_tested_on_the_first_objective_or_the_weighted_mean() -> None:
    """For each challenger that there was, whether or not a guard keeps it out."""
    before = [(0.50, 0.40), (0.52, 0.41), (0.49, 0.42)]
    better = [(0.55, 0.41), (0.555, 0.40), (0.53, 0.415)]
    other = [(0.90, 0.10), (0.90, 0.10), (0.90, 0.10)]
    gains = [b[0] - a[0] for a, b in zip(before, better, strict=True)]
    reference = stats.ttest_1samp(gains, 0, alternative="greater").pvalue
    found = decided([before, better], GUARD, significant=True)
    assert found.p_value == pytest.approx(reference)
    found = decided([before, better, other], GUARD, significant=True)
    assert found.p_value == pytest.approx(2 * reference)
    sums = [(b[0] - a[0]) / 4 + 3 * (b[1] - a[1]) / 4 for a, b in zip(before, better, strict=True)]
    reference = stats.ttest_1samp(sums, 0, alternative="greater").pvalue
    found = decided([before, better], {"weighted": {MIOU: 1, MAP: 3}}, significant=True)
    assert found.p_value == pytest.approx(reference)
    assert found.reason.startswith("the weighted mean of val/mIoU (1) and val/mAP (3): ")


def test_weights_choose() -> None:
    scores = [(0.5, 0.4), (0.6, 0.35), (0.45, 0.5)]
    assert decided(scores, {"weighted": {MIOU: 1, MAP: 0.1}}).winner == 1
    assert decided(scores, {"weighted": {MIOU: 1, MAP: 3}}).winner == 2
    assert decided([(0.5, None), (0.6, None)], {"weighted": {MIOU: 1, MAP: 1}}).winner is None


def test_one_objective_is_selected_as_ever() -> None:
    generator = random.Random(1)
    for _ in range(200):
        seeds = [0, 1, 2][: generator.choice([1, 2, 3])]
        values = [
            {s: generator.choice([NAN, 0.1, 0.2, 0.3, generator.random()]) for s in seeds}
            for _ in range(generator.randint(1, 5))
        ]
        incumbent = generator.choice([None, *range(len(values))])
        one = Phase("one", "grid", {"metric": MIOU, "mode": "max"}, seeds, incumbent=incumbent)
        one.candidates = [Candidate([]) for _ in values]
        runs = [{seed: run(mIoU=value) for seed, value in each.items()} for each in values]
        significant = len(seeds) == 3
        decide(one, runs, significant=significant)
        wanted = select(values, incumbent, mode="max", seeds=seeds, significant=significant)
        found = Decision(one.winner, one.verdict or "undecided", one.reason, one.p_value)
        assert found == wanted
